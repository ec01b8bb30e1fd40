"""Read the journal's segments and the stream side by side, for `audit` to compare."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.history import history, position_range
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.audit import Fault, Finding, Order, compare
from cloudmatch_journal.core.segments import Contents, Seal
from cloudmatch_journal.core.states import snapshot_position
from cloudmatch_journal.files import StoreError

DESCRIBED = ("first", "last", "count", "newest", "devices")  # what a seal says of documents

Message = tuple[int, AnyFact | None]  # position and fact; None: not a fact


class Span(NamedTuple):
    """The positions of one segment to compare, inclusive."""

    segment: int  # its first position
    first: int
    last: int


class Verification:
    """One check of a folder, which the service may be writing to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._firsts = files.first_positions(folder)
        self._order = Order()
        self._compared = 0
        self._offset = 0  # between the last position and its sequence in the stream
        self._since = 0  # since this position
        self._behind = 0

    def check_files(self, progress: Progress) -> list[Finding]:
        """Check snapshots, seals and segments, and the order of all positions."""
        found, known = self._check_snapshots()
        missing: list[tuple[int, str]] = []  # positions that a line or snapshot names
        task = progress.add_task("segments", total=len(self._firsts), detail="")
        last = None if (self._folder / files.BASE).exists() else 0
        for first in self._firsts:
            name = segments.segment_name(first)
            try:
                data = files.segment_path(self._folder, first).read_bytes()
            except FileNotFoundError:  # dropped meanwhile
                continue
            contents, faults = self._check_segment(first, data)
            found += faults
            found += self._order.check(name, (line.position for line in contents.found))
            for line in contents.found:
                if line.offset != self._offset:
                    self._offset, self._since = line.offset, line.position
                if line.after is not None and last is not None and line.after > last:
                    missing.append((line.after, name))
                last = line.position
            progress.update(task, advance=1, detail=f"{self._order.count:,} events")
        missing += [(position, name) for position, name in known if position > self._order.last]
        return found + [Finding(Fault.MISSING, *each) for each in missing if each[0] not in self._order]

    def _check_snapshots(self) -> tuple[list[Finding], list[tuple[int, str]]]:
        """Return the faults of the snapshots, and up to which positions they know events."""
        found, known = [], []
        for name in (files.STATE, files.BASE):
            try:
                if (snapshot := files.read_snapshot(self._folder, name)) is not None:
                    known.append((snapshot_position(snapshot), name))
            except (StoreError, *UNREADABLE):
                found.append(Finding(Fault.DAMAGED, 0, name))
        return found, known

    def _check_segment(self, first: int, data: bytes) -> tuple[Contents, list[Finding]]:
        """Check a segment, and its seal if there is one."""
        seal_name = segments.seal_name(first)
        try:
            saved = (self._folder / seal_name).read_bytes()
        except FileNotFoundError:
            contents = segments.read(data, first)
            return contents, _damaged(first, contents)
        seal = segments.decode_seal(saved)
        contents = segments.read(data, first, math.inf if seal is None else seal.last)
        found = _damaged(first, contents)
        if seal is None or not _describes(seal, contents):
            found.append(Finding(Fault.DAMAGED, first, seal_name))
        elif not found and not segments.is_intact(data, seal):
            found.append(Finding(Fault.DAMAGED, first, segments.segment_name(first)))
        return contents, found

    async def compare_with_stream(self, bus: Bus, progress: Progress) -> list[Finding]:
        """Compare the events, up to the last one that `check_files` saw, with the stream.

        Raises:
            TimeoutError: the bus does not answer.
        """
        oldest, newest = await self._positions(bus)
        first_position = self._firsts[0] if (self._folder / files.BASE).exists() else 0
        last = self._order.last
        start, end = max(oldest, first_position, self._since), min(newest, last)
        self._behind = max(0, newest - last)
        if start > last:
            return []
        found: list[Finding] = []
        task = progress.add_task("stream", total=max(0, end - start + 1), detail="")
        spans = self._spans(start)
        span, pending = next(spans), list[Message]()
        async for batch in history(bus, start - 1 - self._offset, end - self._offset):
            for sequence, fact in batch:
                message = sequence + self._offset, fact
                while message[0] > span.last:
                    found += self._compare(span, pending)
                    span, pending = next(spans), []
                pending.append(message)
            self._compared += len(batch)
            progress.update(task, advance=len(batch), detail=f"{self._compared:,} messages")
        for each in (span, *spans):
            found += self._compare(each, pending)
            pending = []
        oldest, _ = await self._positions(bus)  # the stream drops its oldest messages meanwhile
        return [each for each in found if each.fault is not Fault.UNKNOWN or each.position >= oldest]

    async def _positions(self, bus: Bus) -> tuple[int, int]:
        """Return the first and last position of the stream, in the journal's numbers.

        What the journal read before the stream was restored or created again is not compared with it.
        """
        first, last = await position_range(bus)
        return first + self._offset, last + self._offset

    def _spans(self, start: int) -> Iterator[Span]:
        """Yield the span of each segment from `start` on; together they cover all later positions."""
        lasts = [*(first - 1 for first in self._firsts[1:]), self._order.last]
        for segment, last in zip(self._firsts, lasts, strict=True):
            yield Span(segment, max(start, segment), last)

    def _compare(self, span: Span, messages: list[Message]) -> list[Finding]:
        """Compare a segment's documents with the messages of its span."""
        try:
            data = files.segment_path(self._folder, span.segment).read_bytes()
        except FileNotFoundError:  # dropped meanwhile
            return []
        documents = segments.read(data, span.segment).documents
        inside = [d for d in documents if span.first <= d["position"] <= span.last]
        return compare(segments.segment_name(span.segment), inside, messages, self._order)

    def summary(self, *, offline: bool) -> str:
        """Summarize what was checked."""
        checked = f"{self._order.count:,} events in {len(self._firsts):,} segments"
        if offline:
            return f"{checked} checked, without the stream"
        checked += f", compared with {self._compared:,} messages of the stream"
        if self._behind:
            checked += f"; up to {self._behind:,} later ones are not in the journal yet"
        return checked


def _damaged(first: int, contents: Contents) -> list[Finding]:
    name = segments.segment_name(first)
    return [Finding(Fault.DAMAGED, part.after, name) for part in contents.damaged]


def _describes(seal: Seal, contents: Contents) -> bool:
    """Whether a seal says what is in its segment: those of earlier versions have no CRC-32 of their own."""
    documents = contents.documents
    if not documents or contents.faults:
        return True  # the segment is at fault
    made = segments.make_seal(documents, b"", segments.keys(documents))
    return all(getattr(seal, each) == getattr(made, each) for each in DESCRIBED)
