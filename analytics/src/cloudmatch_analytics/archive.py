"""Windows on disk, so that a restart shows what was there before.

What is wrong with the disk ends nothing: windows are kept in memory and saved once they can be. A damaged
file is put aside, and all windows are written to a new one.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cloudmatch_analytics.core.forgotten import NOBODY
from cloudmatch_analytics.core.windows import ALL, BASE, Bounds, Row
from cloudmatch_analytics.put_aside import put_aside
from cloudmatch_bus.contract.amqp import MAX_TIME
from cloudmatch_bus.process.settings import error_text

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
CREATE TABLE IF NOT EXISTS forgotten (series TEXT PRIMARY KEY, until INTEGER) WITHOUT ROWID;
"""
BESIDE = ("-wal", "-shm")  # what SQLite appends to the names of its files
COLUMNS = {  # a text, and numbers
    "sums": ("key", "start", "bytes", "messages", "late"),
    "places": ("broker", "partition", "next"),
    "added": ("log", "partition", "last"),
    "forgotten": ("series", "until"),
}
KEPT = "closed_until, first, detailed_from"
# rows that are read; in others are numbers that no sum, time or offset has
POSSIBLE = {
    "sums": f"min(start, bytes, messages, late) >= 0 AND start < {MAX_TIME} AND start % {BASE} = 0",
    "kept": f"min({KEPT}) >= 0 AND max({KEPT}) < {MAX_TIME} AND typeof(max({KEPT})) = 'integer'",
    "places": "min(partition, next) >= 0",
    "added": "min(partition, last) >= 0",
    "forgotten": "until >= 0",
}
# errors of SQLite that say nothing about what the file contains
OF_THE_DISK = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}

log = logging.getLogger("archive")


class Saved(NamedTuple):
    """What an archive contains."""

    rows: list[Row]
    bounds: Bounds
    added: dict[tuple[str, int], int]  # offset of the last record that is included, by log and partition
    # until when senders are forgotten (ms since 1970), by the digest of their series
    forgotten: dict[str, int]


NOTHING = Saved([], Bounds(), {}, {})


class DamagedError(Exception):
    """The file contains what was never written to it."""


# raised by SQLite and its driver, which fails to decode damaged texts and messages about them
FAILURES = (sqlite3.Error, OSError, DamagedError, UnicodeDecodeError)


class Archive:
    """A file of rows, and up to which offsets it contains results of a broker and records of a log.

    What is saved survives the process; a power failure may lose the last seconds. `problem` is why nothing is
    saved at present. While `complete` is false, the file lacks rows that were saved earlier: it needs all.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._db: sqlite3.Connection | None = None
        self._added: dict[tuple[str, int], int] = {}
        self._bounds = Bounds()
        self._offsets: dict[str, dict[int, int]] = {}
        self.complete = False
        self.problem: str | None = None

    def load(self) -> Saved:
        """Return everything that was saved. Called once, first."""
        try:
            db = self._open()
            saved = self._read(db)
            self.complete = not _left_out(db)
        except FAILURES as error:
            self._fail(error)
            saved = self._read_only() if self._file.exists() else NOTHING
        self._added = dict(saved.added)
        return saved

    def offsets(self, broker: str) -> dict[int, int]:
        """Return the offset of the first result that is not included, by partition."""
        return dict(self._offsets.get(broker, {}))

    def save(
        self,
        rows: Iterable[Row],
        bounds: Bounds,
        broker: str,
        offsets: Mapping[int, int],
        added: Mapping[tuple[str, int], int],
        forgotten: Mapping[str, int] = NOBODY,
    ) -> bool:
        """Save rows and offsets, delete what is out of bounds, in one transaction; return whether it could.

        Args:
            rows: that have changed; all, unless the file is `complete`.
            offsets: of the first result of the broker that is not included, by partition.
            added: offset of the last record that is included, by log and partition.
            forgotten: until when senders are forgotten, by the digest of their series.
        """
        try:
            db = self._db or self._open()
            with db:
                db.execute("BEGIN")
                if not self.complete:
                    for table in COLUMNS:
                        db.execute(f"DELETE FROM {table}")  # noqa: S608 # a constant
                self._write_rows(db, rows, bounds)
                self._write_offsets(db, broker, offsets, added)
                if not self.complete:
                    db.executemany("INSERT INTO forgotten VALUES (?, ?)", forgotten.items())
            if not self.complete:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # it has what was erased
        except FAILURES as error:
            self._fail(error)
            return False
        if self.problem:
            log.warning("windows are saved again")
        self.problem, self.complete = None, True
        self._bounds, self._added, self._offsets = bounds, dict(added), {broker: dict(offsets)}
        return True

    def _write_rows(self, db: sqlite3.Connection, rows: Iterable[Row], bounds: Bounds) -> None:
        db.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)", rows)
        if bounds != self._bounds or not self.complete:
            db.execute("INSERT OR REPLACE INTO kept VALUES (1, ?, ?, ?)", bounds)
            db.execute("DELETE FROM sums WHERE start < ?", (bounds.first,))
            db.execute("DELETE FROM sums WHERE start < ? AND key <> ?", (bounds.detailed_from, ALL))

    def _write_offsets(
        self,
        db: sqlite3.Connection,
        broker: str,
        offsets: Mapping[int, int],
        added: Mapping[tuple[str, int], int],
    ) -> None:
        db.execute("DELETE FROM places WHERE broker <> ?", (broker,))
        places = [(broker, *offset) for offset in offsets.items()]
        db.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", places)
        new = [(*at, last) for at, last in added.items() if not self.complete or self._added.get(at) != last]
        db.executemany("INSERT OR REPLACE INTO added VALUES (?, ?, ?)", new)

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # several threads use it, but never two at once
        self._db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.executescript(SCHEMA)
        return self._db

    def _read(self, db: sqlite3.Connection) -> Saved:
        """Return what a file contains.

        Raises:
            DamagedError: it was not written like that.
        """
        if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise DamagedError(found)
        for table, (text, *numbers) in COLUMNS.items():
            wrong = [f"typeof({text}) <> 'text'", *(f"typeof({number}) <> 'integer'" for number in numbers)]
            if db.execute(f"SELECT 1 FROM {table} WHERE {' OR '.join(wrong)}").fetchone():  # noqa: S608 # constants
                raise DamagedError(f"table {table} has values of the wrong type")
        rows = [Row(*row) for row in _possible(db, "sums", "start, key, bytes, messages, late")]
        kept = next(_possible(db, "kept", KEPT), None)
        for broker, partition, offset in _possible(db, "places", "broker, partition, next"):
            self._offsets.setdefault(broker, {})[partition] = offset
        added = _possible(db, "added", "log, partition, last")
        forgotten = dict(_possible(db, "forgotten", "series, until"))
        last = {(of, partition): offset for of, partition, offset in added}
        return Saved(rows, Bounds(*kept) if kept else Bounds(), last, forgotten)

    def _read_only(self) -> Saved:
        """Return what a file contains that cannot be written at present, as on a full disk."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            ) as db:
                return self._read(db)
        except FAILURES as error:
            log.warning("windows not read: %s", error)
            return NOTHING

    def _fail(self, error: Exception) -> None:
        """Close the file; put it aside if it is damaged, else say once why it cannot be used."""
        self.close()
        if is_damage(error):
            try:
                name = put_aside(self._file, *(self._file.with_name(self._file.name + end) for end in BESIDE))
            except OSError as another:
                error = another
            else:
                self.complete = False
                log.warning("damaged windows put aside as %s, all are written again: %s", name, error)
                return
        reason = f"windows are not saved to {self._file}: {error_text(error)}"
        if reason != self.problem:
            log.warning("%s", reason)
        self.problem = reason

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None


def _possible(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    return db.execute(f"SELECT {columns} FROM {table} WHERE {POSSIBLE[table]}")  # noqa: S608 # constants


def _left_out(db: sqlite3.Connection) -> bool:
    """Whether there are rows that were not read; say how many."""
    counts = {
        table: db.execute(f"SELECT count(*) FROM {table} WHERE NOT ({possible})").fetchone()[0]  # noqa: S608
        for table, possible in POSSIBLE.items()
    }
    if found := {table: count for table, count in counts.items() if count}:
        log.warning("rows with impossible numbers left out, all others are written again: %s", found)
    return bool(found)


def is_damage(error: Exception) -> bool:
    """Whether an error means that the file does not contain what was written to it."""
    if not isinstance(error, sqlite3.Error):
        return not isinstance(error, OSError)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF not in OF_THE_DISK
