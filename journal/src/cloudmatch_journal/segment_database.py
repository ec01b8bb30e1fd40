"""One segment as a TinyDB database: the only module that uses TinyDB.

TinyDB reads and writes a database whole. Here the table passes added documents to a storage that appends
them: one write and one fsync per batch, at a cost that depends on the batch alone.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tinydb import Storage, TinyDB, where
from tinydb.queries import QueryLike
from tinydb.table import Table

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document

TABLE = "events"

Query = QueryLike


class AppendOnly(Storage):
    """TinyDB's storage of one segment: documents stay in memory, new ones are appended to the file."""

    def __init__(self, path: Path, documents: list[Document], size: int) -> None:
        self.rows: dict[str, Document] = {str(d["position"]): d for d in documents}
        self.size = size  # bytes known to be on disk
        self._file = path.open("ab", buffering=0)

    def read(self) -> dict[str, dict[str, Any]] | None:
        return {TABLE: self.rows}

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        raise NotImplementedError("a journal only grows")

    def append(self, documents: Sequence[Document]) -> None:
        """Append documents.

        Raises:
            OSError: the disk refuses; nothing was written.
        """
        added = segments.encode_lines(documents)
        try:
            rest = memoryview(added)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), self.size)
            raise
        self.size += len(added)
        self.rows.update((str(d["position"]), d) for d in documents)

    def close(self) -> None:
        self._file.close()


class _GrowingTable(Table):
    default_query_cache_capacity = 0  # a page is rarely requested twice

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append documents without a copy of the whole table, as TinyDB's own makes one."""
        added = [dict(document) for document in documents]
        assert isinstance(self._storage, AppendOnly)
        self._storage.append(added)
        self.clear_cache()
        return [document["position"] for document in added]


class _Database(TinyDB):
    table_class = _GrowingTable


class SegmentDatabase:
    """A segment that begins with position `first` and contains `documents`, which take `size` bytes."""

    def __init__(self, path: Path, first: int, documents: list[Document], size: int) -> None:
        self.first = first
        self._database = _Database(path, documents, size, storage=AppendOnly)
        self._table = self._database.table(TABLE)

    @property
    def _storage(self) -> AppendOnly:
        storage = self._database.storage
        assert isinstance(storage, AppendOnly)
        return storage

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._storage.rows)

    @property
    def size(self) -> int:
        """Bytes known to be on disk."""
        return self._storage.size

    def append(self, documents: Iterable[Document]) -> None:
        """Append documents; they are on disk when it returns.

        Raises:
            OSError: the disk refuses; nothing was written.
        """
        self._table.insert_multiple(documents)

    def documents(self) -> list[Document]:
        """Return all documents, oldest first."""
        return [dict(row) for row in self._table]

    def search(self, query: Query) -> list[Document]:
        """Return the documents that a query selects, oldest first."""
        return [dict(row) for row in self._table.search(query)]

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def query(after: int, kind: str | None, device: tuple[str, str] | None) -> Query:
    """Select what happened after a position, perhaps of one type, perhaps about one device (app, id).

    A batch may be selected although only something else in it, as a size, is spelled like the device.
    """
    selected = where("position") > after
    if kind is not None:
        selected &= where("type").one_of(list(segments.types(kind)))
    if device is not None:
        app, name = device
        selected &= where("app") == app
        spells = _spells(name)
        selected &= (
            (where("device") == name)
            | (where("peer") == name)
            | (where("sender") == name)
            | (where("receiver") == name)
            | where("spans").test(spells)
            | where("claims").test(spells)
        )
    return selected


def _spells(name: str) -> Callable[[Any], bool]:
    """Return a test whether undecoded JSON contains a string."""
    spelled = msgspec.json.encode(name)
    return lambda batch: spelled in bytes(batch)
