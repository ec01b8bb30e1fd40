"""All windows, safe for use by several threads: results are folded in, the REST API reads."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import NamedTuple

from cloudmatch_analytics.core.forgotten import NOBODY
from cloudmatch_analytics.core.kafka_records import Added, Forget, Result, SliceSums, Watermark
from cloudmatch_analytics.core.steady_clock import NEAR
from cloudmatch_analytics.core.watermark import PartitionWatermarks
from cloudmatch_analytics.core.windows import (
    ALL,
    BASE,
    SIZES,
    Bounds,
    Row,
    Shape,
    Sums,
    Timeline,
    Window,
    by_sender,
)
from cloudmatch_bus.process.clock import monotonic, now_ms

SLICE = Shape(BASE, BASE)
NAMED = 5  # late senders named in a log line, at most
PIECE = 500  # windows that are added up at once
STUCK = 8.0  # s without progress after which windows count as stuck

Changed = dict[int, set[str]]  # series, by the start of their slice
Position = tuple[str, int]  # a log and one of its partitions


class Update(NamedTuple):
    """What folding results has changed."""

    changed: Changed
    closed: list[Window]  # over all apps, with payloads
    late: list[Row]  # of senders: what was added to closed slices
    too_late: list[Row]  # of senders: sums of slices older than all retained ones
    ahead: int = 0  # ms by which a watermark was ahead of the clock; 0: none was
    reopened: bool = False  # whether closed windows had not ended yet
    forgotten: bool = False  # whether a sender is to be forgotten


class WindowStore:
    """All windows.

    Args:
        lag: how long after its end a window still waits for payloads (ms).
        now: the clock (ms since 1970). What is ahead of it comes from a clock that was wrong.
    """

    def __init__(self, partitions: int, lag: int, now: Callable[[], int] = now_ms) -> None:
        self._timeline = Timeline()
        self._watermarks = PartitionWatermarks(partitions)
        self._lag = lag
        self.now = now
        self._progress_at = monotonic()  # of sums or of the watermark
        self._low: int | None = None  # the watermark
        # offset of the last record that was added, by log and partition
        self._offsets: dict[Position, int] = {}
        self._lock = Lock()

    def fold(self, results: Iterable[Result]) -> Update:
        """Fold results of the pipeline, in its order."""
        changed: Changed = {}
        closed: list[Window] = []
        late: list[Row] = []
        too_late: list[Row] = []
        now, ahead, forgotten = self.now(), 0, False
        with self._lock:
            reopened = self._timeline.reopen(now - self._lag)
            for result in results:
                if isinstance(result, Watermark):
                    ahead = max(ahead, result.at - now)
                    self._watermarks.advance(result.partition, min(result.at, now))
                    closed += self._close(now)
                elif isinstance(result, Forget):
                    self._timeline.forget(result.series, result.at)
                    forgotten = True
                elif isinstance(result, Added) and not self._is_new(result):
                    continue
                elif result.start < self._timeline.oldest:
                    too_late += [Row(result.start, *item) for item in _items(result)]
                else:
                    late += self._add(result, changed.setdefault(result.start, set()))
            if changed or too_late:
                self._progress_at = monotonic()
        return Update(changed, closed, late, too_late, ahead if ahead > NEAR else 0, reopened, forgotten)

    def rows(self, changed: Changed | None) -> list[Row]:
        """Return the sums that were changed, as they are now; all for None."""
        if changed is None:
            with self._lock:
                changed = self._timeline.all_series()
        rows: list[Row] = []
        for start, series in changed.items():
            with self._lock:
                rows += self._timeline.rows(start, series)
        return rows

    def _is_new(self, result: Added) -> bool:
        """Whether the record was not added before: after a crash the pipeline repeats its results."""
        position = result.log, result.partition
        if result.offset <= self._offsets.get(position, -1):
            return False
        self._offsets[position] = result.offset
        return True

    def _add(self, result: Added | SliceSums, changed: set[str]) -> list[Row]:
        """Add sums; extend what is changed, and return of senders what was added late."""
        is_late = result.start + BASE <= self._timeline.closed_until
        if isinstance(result, Added):
            changed.update(self._timeline.add(result.start, result.sums))
            if not is_late:
                return []
            sums = self._timeline.forgotten.renamed(result.start, result.sums)
            return [Row(result.start, series, *sent) for series, sent in sums.items()]
        late: list[Row] = []
        for series, amount, messages in _items(result):
            known = self._timeline.window(SLICE, result.start, series) if is_late else None
            rows = self._timeline.update(Row(result.start, series, amount, messages))
            changed.update(row.series for row in rows)
            if known and rows:
                late.append(Row(result.start, series, amount - known.bytes, messages - known.messages))
        return late

    def _close(self, now: int) -> list[Window]:
        """Close what the watermark has passed; return the closed windows that hold payloads."""
        low = self._watermarks.low(now)
        if low != self._low:
            self._low, self._progress_at = low, monotonic()
        before = self._timeline.closed_until
        if low is None or not self._timeline.close(low - self._lag):
            return []
        found = []
        for size in SIZES.values():
            count = (self._timeline.closed_until - before) // size + 1
            windows = self._timeline.last(Shape(size, size), count)
            found += [w for w in windows if w.end > before and w.messages]
        return found

    def bounds(self) -> Bounds:
        """Return which slices are known and retained."""
        with self._lock:
            return self._timeline.bounds

    def offsets(self) -> dict[Position, int]:
        """Return the offset of the last record that was added, by log and partition."""
        with self._lock:
            return dict(self._offsets)

    def forgotten(self) -> dict[str, int]:
        """Return until when senders are forgotten, by the digest of their series."""
        with self._lock:
            return dict(self._timeline.forgotten.until)

    def restore(
        self,
        rows: Iterable[Row],
        bounds: Bounds,
        offsets: Mapping[Position, int],
        forgotten: Mapping[str, int] = NOBODY,
    ) -> bool:
        """Restore what an archive saved; return whether it had closed windows that have not ended yet."""
        with self._lock:
            self._offsets = dict(offsets)
            self._timeline.restore(bounds, forgotten)
            for row in rows:
                self._timeline.restore_row(row)
            return self._timeline.reopen(self.now() - self._lag)

    def problem(self) -> str | None:
        """Return why no window closes; None when sums or the watermark have advanced of late."""
        if (silent := monotonic() - self._progress_at) < STUCK:
            return None
        return f"no window closes: partition {self._watermarks.slowest} is silent for {silent:.0f} s"

    def last(self, shape: Shape, count: int, series: str = ALL) -> list[Window]:
        """Return up to `count` closed windows of a series, newest last."""
        with self._lock:
            starts = self._timeline.starts(shape, count, series)
        found: list[Window] = []
        for begin in range(0, len(starts), PIECE):  # whoever else waits for the lock has its turn
            with self._lock:
                found += [
                    self._timeline.window(shape, each, series) for each in starts[begin : begin + PIECE]
                ]
        return found

    def running(self, shape: Shape, now: int, series: str = ALL) -> Window:
        """Return the window of a series that is running at `now` and closes next."""
        with self._lock:
            return self._timeline.running(shape, now, series)

    def corrected(self, shape: Shape, after: int, series: str = ALL) -> list[Window]:
        """Return the closed windows of a series that were corrected after correction number `after`."""
        with self._lock:
            return self._timeline.corrected(shape, after, series)

    def senders(self, since: int) -> dict[str, Sums]:
        """Return what each sender has sent since then, by series."""
        with self._lock:
            slices = self._timeline.slices(since)
        return by_sender(slices)

    @property
    def corrections(self) -> int:
        """Number of the last correction."""
        return self._timeline.corrections

    @property
    def closed_until(self) -> int:
        """Time until which all slices are closed."""
        return self._timeline.closed_until

    def behind(self, now: int) -> int:
        """Return by how many ms windows close later than they should; up to a second is on time."""
        return max(0, now - self._lag - BASE - self.closed_until) if self.closed_until else 0


def describe_closed(window: Window) -> str:
    """Return the log line of a closed window."""
    seconds = (window.end - window.start) // 1000
    return f"bytes exchanged in the previous {seconds} seconds: {window.bytes}"


def describe_late(rows: Iterable[Row]) -> list[str]:
    """Return a log line for each slice with late payloads: how many, and of which senders."""
    messages: dict[int, Counter[str]] = {}
    amounts: Counter[int] = Counter()
    for row in rows:
        messages.setdefault(row.start, Counter())[row.series] += row.messages
        amounts[row.start] += row.bytes
    lines = []
    for start, senders in sorted(messages.items()):
        names = ", ".join(name for name, _ in senders.most_common(NAMED))
        more = f" and {len(senders) - NAMED} more" if len(senders) > NAMED else ""
        window = datetime.fromtimestamp(start / 1000, UTC).isoformat()
        counts = f"{senders.total()} payloads, {amounts[start]} bytes"
        lines.append(f"{counts}, from {names}{more} for the window of {window}")
    return lines


def _items(result: Added | SliceSums) -> Iterable[tuple[str, int, int]]:
    return ((series, *sums) for series, sums in result.sums.items())
