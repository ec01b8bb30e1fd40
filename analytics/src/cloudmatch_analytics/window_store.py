"""What REST reads: the timeline, and how far event time has come.

Safe to use from several threads.
"""

import datetime
from collections import Counter
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from cloudmatch_analytics.core.kafka_records import Sums, Tick
from cloudmatch_analytics.core.windows import ALL, BASE, SIZES, Row, Shape, Timeline, Window
from cloudmatch_analytics.core.windows import Sums as Totals

SLICE = Shape(BASE, BASE)
NAMED = 5  # late senders that a sentence names


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
    """Bounds of what is kept; the archive keeps the same."""

    closed_until: int = 0
    first: int = 0  # start of the first slice known, 0: none
    detailed_from: int = 0  # start of the oldest slice with all its series


class News(NamedTuple):
    """What came of results that were taken in."""

    rows: list[Row]  # that changed
    closed: list[Window]  # over all apps, with payloads
    late: list[Row]  # of senders: what was added to slices that had closed
    too_late: list[Row]  # of senders: sums of slices older than any that is kept


class Ledger:
    """All windows. `lag` (ms) is how long after its end a window still waits for payloads."""

    def __init__(self, partitions: int, lag: int) -> None:
        self._timeline = Timeline()
        self._watermarks = Watermarks(partitions)
        self._lag = lag
        self._lock = Lock()

    def take(self, results: Iterable[Sums | Tick]) -> News:
        """Take in what the pipeline says, in its order."""
        changed: dict[tuple[int, str], Row] = {}
        late: list[Row] = []
        too_late: list[Row] = []
        closed: list[Window] = []
        with self._lock:
            for result in results:
                if isinstance(result, Tick):
                    self._watermarks.advance(result.partition, result.at)
                    closed += self._settle()
                    continue
                if result.start < self._timeline.oldest:
                    too_late += [Row(result.start, key, *sums) for key, sums in result.sums.items()]
                    continue
                is_late = result.start + BASE <= self._timeline.closed_until
                for key, (amount, messages) in result.sums.items():
                    if is_late:
                        known = self._timeline.window(SLICE, result.start, key)
                    rows = self._timeline.put(Row(result.start, key, amount, messages))
                    changed.update((row[:2], row) for row in rows)
                    if is_late and rows:
                        more = amount - known.bytes, messages - known.messages
                        late.append(Row(result.start, key, *more))
        return News(list(changed.values()), closed, late, too_late)

    def _settle(self) -> list[Window]:
        low = self._watermarks.low()
        before = self._timeline.closed_until
        if low is None or not self._timeline.settle(low - self._lag):
            return []
        found = []
        for size in SIZES.values():
            count = (self._timeline.closed_until - before) // size + 1
            windows = self._timeline.last(Shape(size, size), count)
            found += [w for w in windows if w.end > before and w.messages]
        return found

    def kept(self) -> Kept:
        """Tell what is kept."""
        with self._lock:
            return Kept(self._timeline.closed_until, *self._timeline.bounds())

    def restore(self, rows: Iterable[Row], kept: Kept) -> None:
        """Take back what an archive kept."""
        with self._lock:
            self._timeline.resume(*kept)
            for row in rows:
                self._timeline.restore(row)

    def last(self, shape: Shape, count: int, key: str = ALL) -> list[Window]:
        """Give up to `count` closed windows of a series, newest last."""
        with self._lock:
            return self._timeline.last(shape, count, key)

    def running(self, shape: Shape, now: int, key: str = ALL) -> Window:
        """Give the window of a series that runs at `now` and closes next."""
        with self._lock:
            return self._timeline.running(shape, now, key)

    def corrected(self, shape: Shape, after: int, key: str = ALL) -> list[Window]:
        """Give the closed windows of a series that corrections later than number `after` changed."""
        with self._lock:
            return self._timeline.corrected(shape, after, key)

    def senders(self, since: int) -> dict[str, Totals]:
        """Give what each sender exchanged since then, by its key."""
        with self._lock:
            return self._timeline.senders(since)

    @property
    def corrections(self) -> int:
        """Number of the last correction."""
        return self._timeline.corrections

    @property
    def closed_until(self) -> int:
        """Time up to which all slices are closed."""
        return self._timeline.closed_until

    def behind(self, now: int) -> int:
        """Give by how many ms windows close later than they should; up to a second is on time."""
        return max(0, now - self._lag - BASE - self.closed_until) if self.closed_until else 0


def announcement(window: Window) -> str:
    """Say in the log what a closed window held."""
    seconds = (window.end - window.start) // 1000
    return f"bytes exchanged in the previous {seconds} seconds: {window.bytes}"


def lateness(rows: Iterable[Row]) -> list[str]:
    """Say how much came late for each slice, and of whom."""
    found: dict[int, Counter[str]] = {}
    total: Counter[int] = Counter()
    for row in rows:
        found.setdefault(row.start, Counter())[row.key] += row.messages
        total[row.start] += row.bytes
    sentences = []
    for start, senders in sorted(found.items()):
        names = ", ".join(name for name, _ in senders.most_common(NAMED))
        more = f" and {len(senders) - NAMED} more" if len(senders) > NAMED else ""
        clock = datetime.datetime.fromtimestamp(start / 1000, datetime.UTC).isoformat()
        sentences.append(
            f"{senders.total()} payloads, {total[start]} bytes, of {names}{more} for the window of {clock}"
        )
    return sentences
