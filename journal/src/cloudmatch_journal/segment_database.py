"""One segment as a TinyDB database: the only module that uses TinyDB.

TinyDB reads and writes a database whole. Here the table passes added documents to a storage that appends
them: one write and one fsync per batch, at a cost that depends on the batch alone.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec
from tinydb import Storage, TinyDB, where
from tinydb.queries import QueryInstance, QueryLike
from tinydb.table import Table

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document
from cloudmatch_journal.files import sync

TABLE = "events"

Query = QueryLike


class AppendOnly(Storage):
    """TinyDB's storage of one segment: documents stay in memory, new ones are appended to the file.

    The file is opened for the first of these: a segment that is only read may be on a disk that refuses.
    """

    def __init__(self, path: Path, documents: list[Document], size: int, after: int) -> None:
        self.rows: dict[str, Document] = {str(d["position"]): d for d in documents}
        self.size = size  # bytes known to be on disk
        self._path = path
        self._file: FileIO | None = None
        self._after = documents[-1]["position"] if documents else after

    def read(self) -> dict[str, dict[str, Any]] | None:
        """Return a copy of the rows: while a thread reads it, documents are appended."""
        return {TABLE: dict(self.rows)}

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        raise NotImplementedError("a journal only grows")

    def append(self, documents: Sequence[Document]) -> None:
        """Append documents.

        Raises:
            OSError: the disk refuses; nothing was written, or the next call removes it.
        """
        added = segments.encode_lines(documents, self._after)
        try:
            self.trim()
            assert self._file is not None
            file = self._file
            rest = memoryview(added)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            self.close()  # opened again, the file ends where it should
            with contextlib.suppress(OSError):
                os.truncate(self._path, self.size)
            raise
        self.size += len(added)
        self._after = documents[-1]["position"]
        self.rows.update((str(d["position"]), d) for d in documents)

    def trim(self) -> None:
        """Remove what a crash left behind the last document.

        Raises:
            OSError: the disk refuses.
        """
        self._file = self._file or self._open()

    def _open(self) -> FileIO:
        """Open the file, and remove what a crash or an error left behind its last document."""
        file = self._path.open("ab", buffering=0)
        try:
            file.truncate(self.size)
            if not self.size:
                sync(self._path.parent)
        except OSError:
            file.close()
            raise
        return file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _GrowingTable(Table):
    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append documents without a copy of the whole table, as TinyDB's own makes one."""
        added = [dict(document) for document in documents]
        assert isinstance(self._storage, AppendOnly)
        self._storage.append(added)
        return [document["position"] for document in added]


class _Database(TinyDB):
    table_class = _GrowingTable


class SegmentDatabase:
    """A segment that begins with position `first` and contains `documents`, which take `size` bytes.

    Args:
        after: position of the event before it.
    """

    def __init__(self, path: Path, first: int, documents: list[Document], size: int, after: int = 0) -> None:
        self.first = first
        self._database = _Database(path, documents, size, after, storage=AppendOnly)
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

    def trim(self) -> None:
        """Remove what a crash left behind the last document.

        Raises:
            OSError: the disk refuses.
        """
        self._storage.trim()

    def documents(self) -> list[Document]:
        """Return all documents, oldest first."""
        return [dict(row) for row in self._table]

    def search(self, query: Query) -> list[Document]:
        """Return the documents that a query selects, oldest first."""
        return [dict(row) for row in self._table.search(query)]

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def query(after: int, kind: str | None, device: tuple[str, str] | None, app: str | None = None) -> Query:
    """Select what happened after a position, perhaps of one type or app, perhaps about one device (app, id).

    A batch may be selected although only something else in it, as a size, is spelled like the device.
    """
    # without a hash: TinyDB keeps no results then, which are rarely asked for twice
    selected = QueryInstance(lambda document: document["position"] > after, None)
    if kind is not None:
        selected &= where("type").one_of(list(segments.types(kind)))
    if device is not None:
        app, name = device
    if app is not None:
        selected &= where("app") == app
    if device is not None:
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
