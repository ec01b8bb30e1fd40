"""The sealed segments of a folder, oldest first; the last ones read stay open."""

import logging
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.erasure import Erasure
from cloudmatch_journal.core.segments import Document, Seal
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.segment_database import Query, SegmentDatabase

log = logging.getLogger("store")

MAX_OPEN = 4  # segments that stay in memory after they were read


class SealedSegments:
    """Segments numbered from 0, the oldest when the folder was opened; dropping some renumbers none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seals: list[Seal] = []  # without their devices: they are in the store's index
        self.size = 0  # bytes
        self.first = 0  # number of `seals[0]`: so many have been dropped
        self._open: dict[int, SegmentDatabase] = {}  # by first position, least recently used first
        self._lock = threading.RLock()  # of these and of the files: searches run in threads

    @property
    def end(self) -> int:
        """One more than the number of the newest."""
        return self.first + len(self.seals)

    def add(self, seal: Seal) -> None:
        """Add the newest segment."""
        self.size += seal.size
        self.seals.append(msgspec.structs.replace(seal, devices=frozenset()))

    def keep_open(self, database: SegmentDatabase) -> None:
        """Keep a segment in memory in place of the least recently used one if there are too many."""
        with self._lock:
            self._open[database.first] = database
            if len(self._open) > MAX_OPEN:
                del self._open[next(iter(self._open))]

    def first_after(self, position: int) -> int:
        """Return the number of the first segment with an event after a position."""
        return self.first + bisect_right(self.seals, position, key=lambda seal: seal.last)

    def last_position(self, number: int) -> int:
        """Return the position of the last event in a segment."""
        return self.seal(number).last

    def seal(self, number: int) -> Seal:
        """Return the seal of a segment."""
        return self.seals[number - self.first]

    def search(self, seal: Seal, selected: Query) -> list[Document]:
        """Return the documents of a segment that a query selects, oldest first; none if it was dropped since.

        Raises:
            StoreError: the segment is missing; or damaged, without checksums of its lines.
        """
        database = self._take_open(seal.first)
        if database is None:
            try:
                documents = self._documents(seal)
            except StoreError:
                if self._is_dropped(seal):
                    return []
                raise
            path = files.segment_path(self._folder, seal.first)
            database = SegmentDatabase(path, seal.first, documents, seal.size)
        self.keep_open(database)
        return database.search(selected)

    def _take_open(self, first: int) -> SegmentDatabase | None:
        with self._lock:
            return self._open.pop(first, None)

    def _is_dropped(self, seal: Seal) -> bool:
        return not self.seals or seal.first < self.seals[0].first

    def _documents(self, seal: Seal) -> list[Document]:
        with self._lock:
            seal = next((each for each in self.seals if each.first == seal.first), seal)  # as it is now
            try:
                data = files.read_sealed(self._folder, seal)
            except StoreError:
                return files.read_whole(self._folder, seal).documents
        return segments.decode_documents(data)

    def erase(self, number: int, erasures: Sequence[Erasure]) -> None:
        """Erase devices from a segment; after a crash in between, that is to be done again. In any thread.

        Raises:
            OSError: the disk refuses.
        """
        seal = self.seal(number)
        data = segments.erase(files.read_segment(self._folder, seal), seal.first, seal.last, erasures)
        contents = segments.read(data, seal.first, seal.last)
        keys = segments.keys(contents.documents)
        erased = segments.make_seal(contents.documents, data, keys, contents.faults)
        with self._lock:
            if number < self.first:
                return  # it was dropped meanwhile
            files.write_sealed(self._folder, data, erased)
            self._open.pop(seal.first, None)
            self.size += erased.size - seal.size
            self.seals[number - self.first] = msgspec.structs.replace(erased, devices=frozenset())

    def replay(self, after: int) -> Iterator[tuple[int, AnyFact]]:
        """Yield the events of all segments with an event after a position, as far as they can be read."""
        for seal in self.seals[self.first_after(after) - self.first :]:
            try:
                data = files.read_sealed(self._folder, seal)
            except StoreError:
                yield from self._whole_entries(seal)
            else:
                yield from segments.decode_entries(data)

    def _whole_entries(self, seal: Seal) -> list[tuple[int, AnyFact]]:
        try:
            return files.read_whole(self._folder, seal).entries
        except StoreError as error:
            log.error("events %d to %d are not read: %s", seal.first, seal.last, error)  # noqa: TRY400  # the disk is at fault, not the code
            return []

    def drop_oldest(self) -> Seal | None:
        """Remove the oldest segment; return its seal with its devices, None if that cannot be read."""
        with self._lock:
            first = self.seals[0].first
            seal = files.read_seal(self._folder, first)
            files.remove_segment(self._folder, first)
            self._open.pop(first, None)
            self.size -= self.seals.pop(0).size
            self.first += 1
        return seal
