"""The windows on disk, so that a restart shows what was there before."""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from cloudmatch_analytics.core.windows import ALL, Row
from cloudmatch_analytics.window_store import Kept

SCHEMA = """
CREATE TABLE IF NOT EXISTS sums (
    start INTEGER, key TEXT, bytes INTEGER, messages INTEGER, late INTEGER, PRIMARY KEY (start, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (
    one INTEGER PRIMARY KEY, closed_until INTEGER, first INTEGER, detailed_from INTEGER
);
CREATE TABLE IF NOT EXISTS places (
    broker TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (broker, partition)
);
"""


class Archive:
    """A file of rows, and how far the results are in it that a broker holds.

    What was saved outlives the process (not the power: the last seconds may go).
    """

    def __init__(self, file: Path) -> None:
        # the threads that use it are never two at once
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        self._kept = Kept()

    def load(self) -> tuple[list[Row], Kept]:
        """Give all that was saved."""
        rows = [Row(*row) for row in self._db.execute("SELECT * FROM sums")]
        kept = self._db.execute("SELECT closed_until, first, detailed_from FROM kept").fetchone()
        return rows, Kept(*kept) if kept else Kept()

    def places(self, broker: str) -> dict[int, int]:
        """Give the offset of the first result that is not in here, by partition."""
        return dict(self._db.execute("SELECT partition, next FROM places WHERE broker = ?", (broker,)))

    def save(self, rows: Iterable[Row], kept: Kept, broker: str, places: Mapping[int, int]) -> None:
        """Set rows and places, and drop what is not kept any more: all at once or nothing."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute("DELETE FROM places WHERE broker <> ?", (broker,))
            self._db.executemany(
                "INSERT OR REPLACE INTO places VALUES (?, ?, ?)",
                [(broker, *place) for place in places.items()],
            )
            if kept != self._kept:
                self._db.execute("INSERT OR REPLACE INTO kept VALUES (1, ?, ?, ?)", kept)
                self._db.execute("DELETE FROM sums WHERE start < ?", (kept.first,))
                self._db.execute("DELETE FROM sums WHERE start < ? AND key <> ?", (kept.detailed_from, ALL))
        self._kept = kept

    def close(self) -> None:
        """Close the file."""
        self._db.close()
