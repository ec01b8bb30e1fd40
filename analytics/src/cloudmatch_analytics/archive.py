"""Windows on disk, so that a restart shows what was there before."""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from cloudmatch_analytics.core.windows import ALL, Bounds, Row

# the names are older than the code's and stay: the file outlives the version that wrote it
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
CREATE TABLE IF NOT EXISTS added (
    log TEXT, partition INTEGER, last INTEGER, PRIMARY KEY (log, partition)
) WITHOUT ROWID;
"""


class Archive:
    """A file of rows, and up to which offsets it contains results of a broker and records of a log.

    What is saved survives the process; a power failure may lose the last seconds.
    """

    def __init__(self, file: Path) -> None:
        # several threads use it, but never two at once
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        self._bounds = Bounds()
        self._added: dict[tuple[str, int], int] = {}

    def load(self) -> tuple[list[Row], Bounds, dict[tuple[str, int], int]]:
        """Return everything that was saved."""
        rows = [Row(*row) for row in self._db.execute("SELECT * FROM sums")]
        bounds = self._db.execute("SELECT closed_until, first, detailed_from FROM kept").fetchone()
        for log, partition, last in self._db.execute("SELECT log, partition, last FROM added"):
            self._added[log, partition] = last
        return rows, Bounds(*bounds) if bounds else Bounds(), dict(self._added)

    def offsets(self, broker: str) -> dict[int, int]:
        """Return the offset of the first result that is not included, by partition."""
        return dict(self._db.execute("SELECT partition, next FROM places WHERE broker = ?", (broker,)))

    def save(
        self,
        rows: Iterable[Row],
        bounds: Bounds,
        broker: str,
        offsets: Mapping[int, int],
        added: Mapping[tuple[str, int], int],
    ) -> None:
        """Save rows and offsets, and delete what is out of bounds, in one transaction.

        Args:
            offsets: of the first result of the broker that is not included, by partition.
            added: offset of the last record that is included, by log and partition.
        """
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute("DELETE FROM places WHERE broker <> ?", (broker,))
            self._db.executemany(
                "INSERT OR REPLACE INTO places VALUES (?, ?, ?)",
                [(broker, *offset) for offset in offsets.items()],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO added VALUES (?, ?, ?)",
                [(*at, last) for at, last in added.items() if self._added.get(at) != last],
            )
            if bounds != self._bounds:
                self._db.execute("INSERT OR REPLACE INTO kept VALUES (1, ?, ?, ?)", bounds)
                self._db.execute("DELETE FROM sums WHERE start < ?", (bounds.first,))
                self._db.execute("DELETE FROM sums WHERE start < ? AND key <> ?", (bounds.detailed_from, ALL))
        self._bounds, self._added = bounds, dict(added)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
