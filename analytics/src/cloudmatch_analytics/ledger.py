"""What the pipeline writes and REST reads: the timelines of all sizes, and how far event time has come.

Safe to use from several threads.
"""

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import NamedTuple

from cloudmatch_analytics.windows import ALL, Row, Timeline, Window


class Watermarks:
    """Event time, partition by partition; it has come as far as the partition that is furthest behind."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        # the latest time of any record, ms since 1970, by partition
        self._at: dict[int, int] = {}

    def advance(self, partition: int, at: int) -> None:
        """Note a record of a partition."""
        self._at[partition] = max(at, self._at.get(partition, 0))

    def low(self) -> int | None:
        """Give the time that all partitions have reached, None before each was heard."""
        return min(self._at.values()) if len(self._at) == self._partitions else None


class Kept(NamedTuple):
    """Bounds of what is kept of one size; the archive keeps the same."""

    size: int  # ms
    closed_until: int
    oldest: int  # start of the oldest window
    detailed_from: int  # start of the oldest window with all its series


class Ledger:
    """All windows.

    `sizes` are lengths in ms by name; `lag` (ms) is how long after its end a window still takes payloads.
    """

    def __init__(self, sizes: Mapping[str, int], partitions: int, lag: int) -> None:
        self.sizes = dict(sizes)
        self._timelines = {size: Timeline(size) for size in sizes.values()}
        self._watermarks = Watermarks(partitions)
        self._lag = lag
        self._lock = Lock()

    def advance(self, partition: int, at: int) -> None:
        """Note the time of a record of a partition."""
        with self._lock:
            self._watermarks.advance(partition, at)

    def run(self, row: Row) -> None:
        """Set the sums so far of a device in a window that still runs."""
        with self._lock:
            self._timelines[row.size].put(row)

    def close(self, final: Iterable[Row], late: Iterable[Row]) -> list[Row]:
        """Set the final sums of devices, add what came too late for them; give all rows that changed."""
        changed: dict[tuple[int, int, str], Row] = {}
        with self._lock:
            for row in final:
                changed.update((r[:3], r) for r in self._timelines[row.size].put(row))
            for row in late:
                changed.update((r[:3], r) for r in self._timelines[row.size].add(row))
        return list(changed.values())

    def settle(self) -> list[Window]:
        """Close the windows that event time has left; give those with payloads, over all apps."""
        with self._lock:
            low = self._watermarks.low()
            if low is None:
                return []
            return [w for timeline in self._timelines.values() for w in timeline.settle(low - self._lag)]

    def kept(self) -> list[Kept]:
        """Tell what is kept of each size."""
        with self._lock:
            return [Kept(t.size, t.closed_until, *t.oldest()) for t in self._timelines.values()]

    def restore(self, rows: Iterable[Row], kept: Iterable[Kept]) -> None:
        """Take back what an archive kept. Sizes that are no more are left out."""
        with self._lock:
            for bounds in kept:
                if timeline := self._timelines.get(bounds.size):
                    timeline.resume(bounds.closed_until, bounds.detailed_from)
            for row in rows:
                if timeline := self._timelines.get(row.size):
                    timeline.restore(row)

    def last(self, size: int, count: int, key: str = ALL) -> list[Window]:
        """Give up to `count` closed windows of a series, newest last."""
        with self._lock:
            return self._timelines[size].last(count, key)

    def running(self, size: int, now: int, key: str = ALL) -> Window:
        """Give the window of a series that runs at `now`."""
        with self._lock:
            return self._timelines[size].running(now, key)

    def closed_until(self, size: int) -> int:
        """Give the time up to which the windows of a size are closed."""
        return self._timelines[size].closed_until


def announcement(window: Window) -> str:
    """Say in the log what a closed window held."""
    seconds = (window.end - window.start) // 1000
    return f"bytes exchanged in the previous {seconds} seconds: {window.bytes}"
