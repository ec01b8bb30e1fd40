"""The windows on disk, so that a restart shows what was there before."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from cloudmatch_analytics.ledger import Kept
from cloudmatch_analytics.windows import ALL, Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS sums (
    size INTEGER, start INTEGER, key TEXT, bytes INTEGER, messages INTEGER, PRIMARY KEY (size, start, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (
    size INTEGER PRIMARY KEY, closed_until INTEGER, oldest INTEGER, detailed_from INTEGER
);
"""


class Archive:
    """A file of rows. What was saved outlives the process (not the power: the last seconds may go)."""

    def __init__(self, file: Path) -> None:
        # a rebalance flushes the sink from another thread; never two at once
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        self._kept: list[Kept] = []

    def load(self) -> tuple[list[Row], list[Kept]]:
        """Give all that was saved."""
        rows = [Row(*row) for row in self._db.execute("SELECT * FROM sums")]
        return rows, [Kept(*row) for row in self._db.execute("SELECT * FROM kept")]

    def save(self, rows: Iterable[Row], kept: list[Kept]) -> None:
        """Set rows, and drop what is not kept any more, at once or not at all."""
        rows = list(rows)
        if not rows and kept == self._kept:
            return
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)", rows)
            if kept != self._kept:
                self._db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", kept)
                for size, _, oldest, detailed_from in kept:
                    self._db.execute("DELETE FROM sums WHERE size = ? AND start < ?", (size, oldest))
                    self._db.execute(
                        "DELETE FROM sums WHERE size = ? AND start < ? AND key <> ?",
                        (size, detailed_from, ALL),
                    )
        self._kept = kept

    def close(self) -> None:
        """Close the file."""
        self._db.close()
