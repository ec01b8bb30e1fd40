"""Keep the journal on disk: the only module that knows TinyDB.

TinyDB reads and writes a database whole. Here a database is one segment, whose storage writes only what
was added: one write and one fsync a batch, and the cost of an event depends on the size of a segment,
never on the age of the journal.

    append   keep a batch (each position once), on disk when it returns
    read     a page of what was kept, by position
    replay   all of it, quickly
    load     the saved state of whoever folds the events, or None
    save     that state, whole or not at all
    let_go   the oldest segments, once a state that knows them is saved
"""

import fcntl
import logging
import os
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tinydb import Storage, TinyDB, where
from tinydb.queries import QueryLike
from tinydb.table import Document as Row
from tinydb.table import Table

from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document, Seal
from cloudmatch_journal.files import BASE, STATE, StoreError

log = logging.getLogger("store")

TABLE = "events"
KEPT_OPEN = 4  # sealed segments that stay in memory after they were read
SCANNED = 8  # segments that one page may look through

Entry = tuple[int, AnyFact]


class Page(NamedTuple):
    """A part of the journal."""

    entries: list[Entry]
    next: int  # where the following page begins: its `after`
    more: bool  # whether the journal goes on behind `next`


class _Rows(Table):
    default_query_cache_capacity = 0  # a page is rarely asked for twice


class _Segments(TinyDB):
    table_class = _Rows


class AppendOnly(Storage):
    """TinyDB's storage of one segment: what is read is remembered, what is written is only appended."""

    def __init__(self, path: Path, documents: list[Document], size: int) -> None:
        self._rows: dict[str, Document] = {str(d["position"]): d for d in documents}
        self.size = size  # bytes that are surely on disk
        self._file = path.open("ab", buffering=0)

    def read(self) -> dict[str, dict[str, Any]] | None:
        return {TABLE: self._rows}

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Append the rows that are new.

        Raises:
            OSError: the disk refuses; nothing was written.
        """
        rows = data[TABLE]
        assert len(rows) >= len(self._rows), "a journal only grows"
        added = segments.lines(islice(rows.values(), len(self._rows), None))
        try:
            rest = memoryview(added)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), self.size)
            raise
        self.size += len(added)
        self._rows = rows

    def close(self) -> None:
        self._file.close()


class Store:
    """A folder of segments. One process at a time."""

    def __init__(self, folder: Path, segment_size: int) -> None:
        """Open the folder, making it if need be, and cut off what a crash left half written.

        Raises:
            StoreError: another process has it open.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_size = segment_size
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StoreError(f"{folder} is in use by another journal") from None
        self._sealed: list[Seal] = []
        self._sealed_size = 0  # bytes
        self._gone = 0  # segments let go since the folder was opened; place p is `_sealed[p - _gone]`
        self._shortened = (folder / BASE).exists()  # whether any were let go, ever
        self._opened: dict[int, _Segments] = {}  # sealed ones, by first position, the last used last
        # device → in which segments it is named, by place; the one that grows is behind the sealed ones
        self._where: dict[str, array[int]] = {}
        # the segment that grows
        self._current: _Segments | None = None
        self._first = 0
        self._count = 0
        self.position = 0  # of the last event kept; 0: none
        for first in files.firsts(folder):
            self._open(first)

    def close(self) -> None:
        """Close all files."""
        for each in (self._current, *self._opened.values()):
            if each is not None:
                each.close()
        self._lock.close()

    def append(self, batch: Sequence[Entry]) -> int:
        """Keep those of the batch that are not kept yet; give how many. On disk when it returns.

        Positions must ascend.

        Raises:
            OSError: the disk refuses; nothing of the batch is kept.
        """
        new = [segments.document(position, fact) for position, fact in batch if position > self.position]
        if not new:
            return 0
        if self._current is None:
            self._begin(new[0]["position"])
        assert self._current is not None
        self._current.table(TABLE).insert_multiple(Row(d, d["position"]) for d in new)
        self._count += len(new)
        self.position = new[-1]["position"]
        self._index(each for document in new for each in segments.names(document))
        if self._count >= self._segment_size:
            self._seal()
        return len(new)

    def read(
        self,
        after: int,
        limit: int,
        *,
        kind: str | None = None,
        device: tuple[str, str] | None = None,
    ) -> Page:
        """Give events behind position `after`, oldest first, `limit` at most.

        A page of a kind of fact or of a device (app, id) may hold fewer than there are, for one call looks
        through a bounded part of the journal.

        Raises:
            StoreError: a segment is damaged.
        """
        wanted = _condition(after, kind, device)
        entries: list[Entry] = []
        first = self._gone + bisect_right(self._sealed, after, key=lambda seal: seal.last)
        places: Sequence[int] = range(first, self._growing + (self._current is not None))
        if device is not None:
            named = self._where.get(segments.name(*device), array("L"))
            places = named[bisect_left(named, first) :]
        for scanned, place in enumerate(places):
            if scanned == SCANNED:
                return Page(entries, self._sealed[place - 1 - self._gone].last, True)
            entries += self._search(self._segment(place), wanted, limit - len(entries))
            if len(entries) == limit:
                last = entries[-1][0]
                return Page(entries, last, last < self.position)
        return Page(entries, max(after, self.position), False)

    def replay(self, after: int) -> Iterator[Entry]:
        """Give all events behind position `after`, oldest first. Nothing may be kept or let go meanwhile.

        Raises:
            StoreError: a segment is damaged.
        """
        for seal in self._sealed[bisect_right(self._sealed, after, key=lambda seal: seal.last) :]:
            yield from _behind(after, files.sealed(self._folder, seal))
        if self._current is not None:
            yield from _behind(after, files.segment(self._folder, self._first).read_bytes())

    @property
    def begins(self) -> int:
        """Position before which events were let go; 0 when none was."""
        if not self._shortened:
            return 0
        return self._sealed[0].first if self._sealed else self._first

    @property
    def spare(self) -> Sequence[Seal]:
        """The segments that may be let go, oldest first: full, and not the last event's."""
        return self._sealed if self._current is not None else self._sealed[:-1]

    @property
    def size(self) -> int:
        """Bytes of all events kept."""
        growing = self._current.storage if self._current is not None else None
        return self._sealed_size + (growing.size if isinstance(growing, AppendOnly) else 0)

    def load(self, name: str = STATE) -> bytes | None:
        """Give the state that was saved last, `STATE` or `BASE`; None when there is none or it is damaged."""
        try:
            check, _, state = (self._folder / name).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if check != b"%08x" % zlib.crc32(state):
            log.warning("%s is damaged", self._folder / name)
            return None
        return state

    def save(self, state: bytes, name: str = STATE) -> None:
        """Save a state, whole or not at all."""
        files.write(self._folder / name, b"%08x\n%b" % (zlib.crc32(state), state))

    def let_go(self, count: int, state: bytes) -> None:
        """Remove the oldest `count` of the `spare` segments, once `state` is saved as the base.

        Args:
            state: it must hold all that is folded from them.
        """
        self.save(state, BASE)
        self._shortened = True
        for _ in range(count):
            gone = self._sealed[0]
            seal = files.seal(self._folder, gone.first)
            files.remove(self._folder, gone.first)
            if (database := self._opened.pop(gone.first, None)) is not None:
                database.close()
            del self._sealed[0]
            self._sealed_size -= gone.size
            self._gone += 1
            self._forget(seal.devices if seal is not None else list(self._where))

    def _forget(self, names: Iterable[str]) -> None:
        """Note that the segments which have gone name nobody any more."""
        for each in names:
            places = self._where.get(each, array("L"))
            del places[: bisect_left(places, self._gone)]
            if not places:
                self._where.pop(each, None)

    @property
    def _growing(self) -> int:
        """Place of the segment that grows."""
        return self._gone + len(self._sealed)

    def _index(self, names: Iterable[str]) -> None:
        """Note that the segment behind the sealed ones names these devices."""
        place = self._growing
        for each in names:
            places = self._where.setdefault(each, array("L"))
            if not places or places[-1] != place:
                places.append(place)

    def _open(self, first: int) -> None:
        """Take in a segment that is there: by its seal, or else as the one that grows."""
        if self._current is not None:  # it was full, and the crash came before its seal
            self._seal()
        if (seal := files.seal(self._folder, first)) is not None:
            self._index(seal.devices)
            self._remember(seal)
            self.position = seal.last
            return
        path = files.segment(self._folder, first)
        data = path.read_bytes()
        documents, good = segments.whole(data)
        if good < len(data):
            log.warning("%s: cut off %d bytes that a crash left half written", path, len(data) - good)
            os.truncate(path, good)
        if not documents:
            path.unlink()
            return
        self._current = _Segments(path, documents, good, storage=AppendOnly)
        self._first, self._count = first, len(documents)
        self._index(each for d in documents for each in segments.names(d))
        self.position = documents[-1]["position"]
        if self._count >= self._segment_size:
            self._seal()

    def _begin(self, first: int) -> None:
        self._current = _Segments(files.segment(self._folder, first), [], 0, storage=AppendOnly)
        self._first, self._count = first, 0
        files.sync(self._folder)

    def _seal(self) -> None:
        assert self._current is not None
        data = files.segment(self._folder, self._first).read_bytes()
        seal = segments.seal([dict(row) for row in self._current.table(TABLE)], data)
        files.write(self._folder / segments.seal_name(self._first), msgspec.json.encode(seal))
        self._remember(seal)
        self._keep_open(self._first, self._current)
        self._current = None

    def _remember(self, seal: Seal) -> None:
        self._sealed_size += seal.size
        self._sealed.append(msgspec.structs.replace(seal, devices=frozenset()))  # they are in the index

    def _segment(self, place: int) -> _Segments:
        if place == self._growing:
            assert self._current is not None
            return self._current
        seal = self._sealed[place - self._gone]
        database = self._opened.pop(seal.first, None)
        if database is None:
            data = files.sealed(self._folder, seal)
            path = files.segment(self._folder, seal.first)
            database = _Segments(path, segments.whole(data)[0], len(data), storage=AppendOnly)
        self._keep_open(seal.first, database)
        return database

    def _keep_open(self, first: int, database: _Segments) -> None:
        self._opened[first] = database
        if len(self._opened) > KEPT_OPEN:
            self._opened.pop(next(iter(self._opened))).close()

    @staticmethod
    def _search(database: _Segments, wanted: QueryLike, limit: int) -> Iterable[Entry]:
        found = database.table(TABLE).search(wanted)
        return [(row["position"], segments.fact(row)) for row in found[:limit]]


def _behind(after: int, data: bytes) -> Iterator[Entry]:
    return (entry for entry in segments.entries(data) if entry[0] > after)


def _condition(after: int, kind: str | None, device: tuple[str, str] | None) -> QueryLike:
    """The query for events behind `after`, perhaps of one kind, perhaps that name one device."""
    query = where("position") > after
    if kind is not None:
        query &= where("type") == kind
    if device is not None:
        app, name = device
        query &= where("app") == app
        query &= (
            (where("device") == name)
            | (where("peer") == name)
            | (where("sender") == name)
            | (where("receiver") == name)
        )
    return query
