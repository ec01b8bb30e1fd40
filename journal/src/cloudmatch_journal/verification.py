"""Read the journal's segments and the stream side by side, and let `audit` judge."""

from pathlib import Path

from rich.progress import Progress

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.consumer import history, position_range
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.audit import Fault, Finding, Order, compare

NAME = "journal-verify"


class Verification:
    """One look at a folder, which the service may be writing to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._firsts = files.firsts(folder)
        self._order = Order()
        self._compared = 0
        self._behind = 0

    def order(self, progress: Progress) -> list[Finding]:
        """Hold the segments against their seals, and positions against one another."""
        found = []
        task = progress.add_task("segments", total=len(self._firsts), said="")
        for first in self._firsts:
            name = segments.segment_name(first)
            seal = files.seal(self._folder, first)
            try:
                data = files.segment(self._folder, first).read_bytes()
            except FileNotFoundError:  # let go meanwhile
                continue
            if seal is not None and not segments.intact(data, seal):
                found.append(Finding(Fault.DAMAGED, first, name))
            found += self._order.take(name, (d["position"] for d in segments.whole(data)[0]))
            progress.update(task, advance=1, said=f"{self._order.count:,} events")
        return found

    async def against_stream(self, bus: Bus, progress: Progress) -> list[Finding]:
        """Hold the events, up to the last one that `order` saw, against the stream.

        Raises:
            TimeoutError: the bus does not answer.
        """
        head, tail = await position_range(bus)
        begins = self._firsts[0] if (self._folder / files.BASE).exists() else 0
        last = self._order.last
        start, upto = max(head, begins), min(tail, last)
        self._behind = max(0, tail - last)
        if start > last:
            return []
        found: list[Finding] = []
        waiting: list[tuple[int, AnyFact | None]] = []
        task = progress.add_task("stream", total=max(0, upto - start + 1), said="")
        # spans of positions, each with the segment they belong in
        ends = [*(first - 1 for first in self._firsts[1:]), last]
        spans = iter(zip(self._firsts, ends, strict=True))
        first, end = next(spans)
        async for batch in history(bus, NAME, start - 1, upto):
            for message in batch:
                while message[0] > end:
                    found += self._compare(first, start, end, waiting)
                    start, waiting = max(start, end + 1), []
                    first, end = next(spans)
                waiting.append(message)
            self._compared += len(batch)
            progress.update(task, advance=len(batch), said=f"{self._compared:,} messages")
        for each, its_end in [(first, end), *spans]:
            found += self._compare(each, start, its_end, waiting)
            start, waiting = max(start, its_end + 1), []
        head, _ = await position_range(bus)  # the stream lets its oldest go while we read
        return [each for each in found if each.fault is not Fault.UNKNOWN or each.position >= head]

    def _compare(
        self, first: int, start: int, end: int, messages: list[tuple[int, AnyFact | None]]
    ) -> list[Finding]:
        """Compare the segment's documents from `start` to `end`."""
        try:
            documents, _ = files.whole(self._folder, first)
        except FileNotFoundError:  # let go meanwhile
            return []
        inside = [d for d in documents if start <= d["position"] <= end]
        return compare(segments.segment_name(first), inside, messages, self._order)

    def summary(self, *, offline: bool) -> str:
        """Say what was looked at."""
        said = f"{self._order.count:,} events in {len(self._firsts):,} segments"
        if offline:
            return f"{said}, held against themselves only"
        said += f", held against {self._compared:,} messages of the stream"
        if self._behind:
            said += f"; up to {self._behind:,} that follow in the stream are not written yet"
        return said
