"""Read the journal's segments and the stream side by side, for `audit` to compare."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.consumer import history, position_range
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.audit import Fault, Finding, Order, compare

NAME = "journal-verify"

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
        self._behind = 0

    def check_order(self, progress: Progress) -> list[Finding]:
        """Check the segments against their seals, and the order of all positions."""
        found = []
        task = progress.add_task("segments", total=len(self._firsts), detail="")
        for first in self._firsts:
            name = segments.segment_name(first)
            seal = files.read_seal(self._folder, first)
            try:
                data = files.segment_path(self._folder, first).read_bytes()
            except FileNotFoundError:  # dropped meanwhile
                continue
            if seal is not None and not segments.is_intact(data, seal):
                found.append(Finding(Fault.DAMAGED, first, name))
            found += self._order.check(name, (d["position"] for d in segments.complete_lines(data)[0]))
            progress.update(task, advance=1, detail=f"{self._order.count:,} events")
        return found

    async def compare_with_stream(self, bus: Bus, progress: Progress) -> list[Finding]:
        """Compare the events, up to the last one that `check_order` saw, with the stream.

        Raises:
            TimeoutError: the bus does not answer.
        """
        oldest, newest = await position_range(bus)
        first_position = self._firsts[0] if (self._folder / files.BASE).exists() else 0
        last = self._order.last
        start, end = max(oldest, first_position), min(newest, last)
        self._behind = max(0, newest - last)
        if start > last:
            return []
        found: list[Finding] = []
        task = progress.add_task("stream", total=max(0, end - start + 1), detail="")
        spans = self._spans(start)
        span, pending = next(spans), list[Message]()
        async for batch in history(bus, NAME, start - 1, end):
            for message in batch:
                while message[0] > span.last:
                    found += self._compare(span, pending)
                    span, pending = next(spans), []
                pending.append(message)
            self._compared += len(batch)
            progress.update(task, advance=len(batch), detail=f"{self._compared:,} messages")
        for each in (span, *spans):
            found += self._compare(each, pending)
            pending = []
        oldest, _ = await position_range(bus)  # the stream drops its oldest messages meanwhile
        return [each for each in found if each.fault is not Fault.UNKNOWN or each.position >= oldest]

    def _spans(self, start: int) -> Iterator[Span]:
        """Yield the span of each segment from `start` on; together they cover all later positions."""
        lasts = [*(first - 1 for first in self._firsts[1:]), self._order.last]
        for segment, last in zip(self._firsts, lasts, strict=True):
            yield Span(segment, max(start, segment), last)

    def _compare(self, span: Span, messages: list[Message]) -> list[Finding]:
        """Compare a segment's documents with the messages of its span."""
        try:
            documents, _ = files.read_complete(self._folder, span.segment)
        except FileNotFoundError:  # dropped meanwhile
            return []
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
