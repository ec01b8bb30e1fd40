"""The journal on disk: a folder of segments, full ones sealed, the last one growing.

append         store a batch, each position once; on disk when it returns
find           a search for events, by position
replay         all events, fast
load, save     a snapshot of the folded events
drop_segments  remove the oldest segments, once a snapshot that covers them is saved
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.device_index import DeviceIndex
from cloudmatch_journal.core.erasure import Erasure
from cloudmatch_journal.core.segments import Seal
from cloudmatch_journal.files import BASE, STATE, FolderError, StoreError
from cloudmatch_journal.pages import MAX_SCANNED, Page, Part, Search
from cloudmatch_journal.sealed_segments import SealedSegments
from cloudmatch_journal.segment_database import SegmentDatabase, query

log = logging.getLogger("store")

MAX_SEGMENT = 8 * 2**20  # bytes, after which a segment is full whatever the number of its events

Entry = tuple[int, AnyFact]  # position and fact


class Store:
    """A folder of segments, open in one process at a time."""

    def __init__(self, folder: Path, segment_size: int) -> None:
        """Open the folder; create it if needed.

        Nothing needs to be written: everything is read from a full or read-only disk as well, and `problem`
        says why nothing can be stored. What a crash left incomplete is removed when events follow.

        Raises:
            FolderError: it is not a folder, or may not be read.
            StoreError: another process has it open, or it cannot be read.
        """
        self._folder = folder
        self._segment_size = segment_size
        self.problem: str | None = None  # why the disk refused the last thing that was to be written
        try:
            self._lock = self._open_folder()
            firsts = files.first_positions(folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise FolderError(f"{folder} is not a folder") from error
        except PermissionError as error:
            raise FolderError(f"{folder} cannot be used: {error.strerror}") from error
        except OSError as error:
            raise StoreError(f"{folder} cannot be used: {error.strerror}") from error
        self._sealed = SealedSegments(folder)
        self._ever_dropped = (folder / BASE).exists()
        self._index = DeviceIndex()
        self._growing: SegmentDatabase | None = None
        self._damaged = 0  # parts of it
        self._named: dict[str, set[str]] = {}  # devices named in it, by app
        self.position = 0  # of the last event; 0: none
        self.newest = 0  # ms since 1970; its time
        self.offset = 0  # between positions and sequences in the stream, from the next event on
        self.holes: list[tuple[int, int]] = []  # after and before which positions events are damaged
        for first in firsts:
            try:
                self._load_segment(first)
            except OSError as error:
                path = files.segment_path(folder, first)
                raise StoreError(f"{path} cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Close all files."""
        if self._growing is not None:
            self._growing.close()
        os.close(self._lock)

    def append(self, batch: Sequence[Entry]) -> int:
        """Store the entries of a batch that are new; return how many. They are on disk when it returns.

        Positions must ascend.

        Raises:
            OSError: the disk refuses; nothing of the batch is stored.
        """
        new = [(position, fact) for position, fact in batch if position > self.position]
        if not new:
            return 0
        growing = self._growing
        if growing is None or not len(growing):
            growing = self._create_segment(new[0][0])
        with self._writing():
            growing.append(segments.to_document(position, fact, self.offset) for position, fact in new)
        self.position, self.newest = new[-1][0], new[-1][1].at
        for _, fact in new:
            self._name(fact.app, segments.named(fact))
        if self._is_full(growing):
            self._seal(growing)
        return len(new)

    def find(
        self,
        after: int,
        *,
        kind: str | None = None,
        device: tuple[str, str] | None = None,
        app: str | None = None,
    ) -> Search:
        """Return a search for events after a position, perhaps of one type, app or device (app, id)."""
        parts = self._parts(after, device)
        name = None if device is None else device[1]
        return Search(parts, query(after, kind, device, app), name, max(after, self.position))

    def read(
        self, after: int, limit: int, *, kind: str | None = None, device: tuple[str, str] | None = None
    ) -> Page:
        """Return a page of what `find` finds.

        Raises:
            StoreError: a segment is damaged.
        """
        return self.find(after, kind=kind, device=device).page(limit)

    def event(self, position: int) -> AnyFact | None:
        """Return the event at a position; None if there is none.

        Raises:
            StoreError: its segment is damaged.
        """
        for part in self._parts(position - 1, None)[:1]:
            for document in part.search(query(position - 1, None, None))[:1]:
                return segments.to_fact(document) if document["position"] == position else None
        return None

    def replay(self, after: int) -> Iterator[Entry]:
        """Yield all events after a position, as far as they can be read, oldest first.

        Nothing may be appended or dropped meanwhile.
        """
        for entry in self._sealed.replay(after):
            if entry[0] > after:
                yield entry
        for document in self._growing.documents() if self._growing is not None else ():
            if document["position"] > after:
                yield document["position"], segments.to_fact(document)

    @property
    def first_position(self) -> int:
        """Position of the first event, if any before it were dropped; 0 if none was."""
        if not self._ever_dropped:
            return 0
        if self._sealed.seals:
            return self._sealed.seals[0].first
        return self._growing.first if self._growing is not None else 0

    @property
    def droppable(self) -> Sequence[Seal]:
        """The segments that may be dropped, oldest first: full, and without the last event."""
        return self._sealed.seals if self._growing is not None else self._sealed.seals[:-1]

    @property
    def size(self) -> int:
        """Bytes of all events."""
        return self._sealed.size + (self._growing.size if self._growing is not None else 0)

    def load(self, name: str = STATE) -> bytes | None:
        """Return the snapshot saved last as `STATE` or `BASE`; None if there is none or it is damaged."""
        try:
            return files.read_snapshot(self._folder, name)
        except StoreError as error:
            log.warning("%s", error)
            return None

    def save(self, snapshot: bytes, name: str = STATE) -> None:
        """Save a snapshot atomically."""
        with self._writing():
            files.write_snapshot(self._folder, name, snapshot)

    def ignore(self, name: str) -> None:
        """Set a snapshot aside that is of no use, so that it never becomes the base."""
        path = self._folder / name
        with contextlib.suppress(OSError):  # there is none, or nothing can be changed in this folder
            path.replace(path.with_suffix(".ignored"))

    def start_erasing(self, erasures: Sequence[Erasure]) -> list[int]:
        """Return the numbers of the segments that `erase` has to look at."""
        keys = [segments.device_key(each.app, each.device) for each in erasures]
        found = {number for key in keys for number in self._index.segments(key, self._sealed.first)}
        if self._growing is not None and self._sealed.end in found:
            self._seal(self._growing)
        return sorted(found)

    def erase(self, number: int, erasures: Sequence[Erasure]) -> None:
        """Erase devices from a full segment, in any thread; one that cannot be read stays, and is named.

        Raises:
            OSError: the disk refuses.
        """
        try:
            if number >= self._sealed.first:
                self._sealed.erase(number, erasures)
        except StoreError as error:
            log.error("nothing is erased from a segment: %s", error)  # noqa: TRY400  # the disk is at fault

    def end_erasing(self, erasures: Sequence[Erasure]) -> None:
        """Find the devices by their pseudonyms."""
        for each in erasures:
            end = self._sealed.first_after(each.position)
            name = segments.device_key(each.app, each.pseudonym)
            self._index.rename(segments.device_key(each.app, each.device), name, end)

    def drop_segments(self, count: int) -> None:
        """Remove the oldest `count` of the `droppable` segments; the snapshot saved last must cover them.

        It becomes the base. That, and all else here, needs no space on the disk.
        """
        state, base = self._folder / STATE, self._folder / BASE
        with contextlib.suppress(FileNotFoundError):  # the base is the snapshot saved last
            state.replace(base)
            files.sync(self._folder)
        self._ever_dropped = True
        for _ in range(count):
            seal = self._sealed.drop_oldest()
            self._index.drop(self._sealed.first, seal.devices if seal is not None else None)

    def _parts(self, after: int, device: tuple[str, str] | None) -> list[Part]:
        """Return the first segments to search for events after a position: one more than may be searched."""
        first = self._sealed.first_after(after)
        numbers: Sequence[int] = range(first, self._sealed.end + (self._growing is not None))
        if device is not None:
            numbers = self._index.segments(segments.device_key(*device), first)
        return [self._part(number) for number in numbers[: MAX_SCANNED + 1]]

    def _part(self, number: int) -> Part:
        begins = self._sealed.last_position(number - 1) if number > self._sealed.first else 0
        if number < self._sealed.end:
            seal = self._sealed.seal(number)
            return Part(partial(self._sealed.search, seal), seal.size, begins)
        assert self._growing is not None
        return Part(self._growing.search, self._growing.size, begins)

    def _is_full(self, segment: SegmentDatabase) -> bool:
        return len(segment) >= self._segment_size or segment.size >= MAX_SEGMENT

    def _open_folder(self) -> int:
        """Create the folder if needed, and lock it until the file that is returned is closed.

        Raises:
            StoreError: another process has locked it.
        """
        path = self._folder / "lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if not self._folder.is_dir():
                raise
            self._refused(error)
            lock = os.open(path if path.exists() else self._folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StoreError(f"{self._folder} is in use by another journal") from None
        return lock

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep why the disk refuses to be written to, if it does."""
        try:
            yield
        except OSError as error:
            self._refused(error)
            raise
        self.problem = None

    def _refused(self, error: OSError) -> None:
        problem = f"cannot write to {self._folder}: {error.strerror}"
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem

    def _load_segment(self, first: int) -> None:
        """Load a segment from the folder: by its seal, or else as the growing one."""
        if self._growing is not None:  # it was full, and the crash came before its seal
            self._seal(self._growing)
        if (seal := files.read_seal(self._folder, first)) is not None:
            self._index.add(seal.devices, self._sealed.end)
            self._sealed.add(seal)
            self.position, self.newest, self.offset = seal.last, seal.newest, seal.offset
            return
        path = files.segment_path(self._folder, first)
        data = path.read_bytes()
        contents = segments.read(data, first)
        for part in contents.damaged:
            log.error("%s is damaged: %d bytes at byte %d are skipped", path, part.size, part.offset)
        if contents.size < len(data):
            incomplete = len(data) - contents.size
            log.warning("%s: %d bytes at its end were incomplete after a crash", path, incomplete)
        if not contents.lines:
            files.set_aside(path)
            return
        self.holes += contents.holes(self.position)
        documents = contents.documents
        self._damaged = contents.faults
        self._growing = SegmentDatabase(path, first, documents, contents.size)
        for document in documents:
            self._name(document["app"], segments.devices(document))
        self.position, self.newest = documents[-1]["position"], documents[-1]["at"]
        self.offset = documents[-1].get("offset", 0)
        if self._is_full(self._growing):
            self._seal(self._growing)

    def _create_segment(self, first: int) -> SegmentDatabase:
        path = files.segment_path(self._folder, first)
        self._growing, self._damaged = SegmentDatabase(path, first, [], 0, self.position), 0
        return self._growing

    def _name(self, app: str, devices: set[str]) -> None:
        """Record that the growing segment names these devices."""
        known = self._named.setdefault(app, set())
        new = devices - known
        known |= new
        self._index.add((segments.device_key(app, device) for device in new), self._sealed.end)

    def _seal(self, growing: SegmentDatabase) -> None:
        """Seal the growing segment. If the disk refuses its seal, the next start writes it."""
        keys = (segments.device_key(app, each) for app, devices in self._named.items() for each in devices)
        data = files.segment_path(self._folder, growing.first).read_bytes()
        seal = segments.make_seal(growing.documents(), data[: growing.size], keys, self._damaged)
        try:
            growing.trim()
            files.write_seal(self._folder, seal)
        except OSError as error:
            self._refused(error)
        self._sealed.add(seal)
        growing.close()
        self._sealed.keep_open(growing)
        self._growing = None
        self._named = {}
