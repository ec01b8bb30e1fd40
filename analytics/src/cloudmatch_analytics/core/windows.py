"""The windows that REST reads: sums per sender, per app and over all.

Only *slices* of `BASE` are kept; a longer window, tumbling or hopping, is the sum of its slices, so that
windows of all shapes agree. A *series* is a key: ``<app>.<device>`` tokens for a device, ``<app>`` for an
app, the empty text for all. Sums per sender only grow, and of two that arrive the larger is the newer one:
hearing them twice or in another order changes nothing.

A window is closed once event time has passed its end everywhere, and running before. What is added to a
slice that is closed is *late*: it counts, is counted as such, and is noted as a correction. Between the
first slice known and the last closed, one without payloads is a zero.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

ALL = ""  # the series over all apps
BASE = 10_000  # ms; a slice
SIZES = {"10s": 10_000, "60s": 60_000}  # ms; multiples of BASE, each of the one before
LONGEST = max(SIZES.values())
KEPT = 24 * 3_600_000  # ms of closed slices that are kept
DETAILS = 200_000  # sums per device and app kept, at most; the oldest slices' go first
CORRECTIONS = 10_000  # remembered for who follows


class Sums(NamedTuple):
    """What was exchanged."""

    bytes: int = 0
    messages: int = 0
    late: int = 0  # of the messages, those that came when the slice was closed

    def plus(self, other: "Sums") -> "Sums":
        """Add."""
        return Sums(self.bytes + other.bytes, self.messages + other.messages, self.late + other.late)


NOTHING = Sums()


class Row(NamedTuple):
    """The sums of one series in one slice."""

    start: int  # ms since 1970
    key: str
    bytes: int
    messages: int
    late: int = 0


class Window(NamedTuple):
    """One window of one series; times in ms since 1970."""

    start: int
    end: int
    bytes: int
    messages: int
    late: int = 0


class Shape(NamedTuple):
    """Windows of `size` ms, one beginning every `hop` ms. Both are multiples of `BASE`."""

    size: int
    hop: int

    def holding(self, start: int) -> Iterator[int]:
        """Give the start of each window that holds the slice that begins at `start`."""
        last = start - start % self.hop
        return iter(range(last, start - self.size, -self.hop))


class Timeline:
    """All slices, within bounds."""

    def __init__(self, *, kept: int = KEPT, details: int = DETAILS) -> None:
        # sums by series, by start of the slice; in no order
        self._sums: dict[int, dict[str, Sums]] = {}
        # how many sums there are besides those of `ALL`
        self._details = 0
        # slices that begin before this one have lost their sums per device and app
        self._detailed_from = 0
        # the first slice known
        self._first: int | None = None
        # every slice that ends at or before this time is closed
        self.closed_until = 0
        # number of the last correction
        self.corrections = 0
        self._corrections: deque[tuple[int, int, str]] = deque(maxlen=CORRECTIONS)  # number, start, key
        self._max_kept, self._max_details = kept, details

    @property
    def oldest(self) -> int:
        """Start of the oldest slice that may be kept: a window of each shape begins there."""
        oldest = self.closed_until - self._max_kept
        return oldest - oldest % LONGEST

    def put(self, row: Row) -> list[Row]:
        """Set a sender's sums, unless more is known already; give all rows that this changes."""
        if row.start < self.oldest:
            return []
        known = self._sums.get(row.start, {}).get(row.key, NOTHING)
        grown = row.messages - known.messages
        if grown <= 0 and row.bytes <= known.bytes:
            return []
        closed = row.start + BASE <= self.closed_until
        change = Sums(row.bytes - known.bytes, grown, grown if closed else 0)
        sums = self._slice(row.start)
        keys = [row.key, row.key.partition(".")[0], ALL] if row.start >= self._detailed_from else [ALL]
        changed = []
        for key in keys:
            self._details += key != ALL and key not in sums
            sums[key] = new = sums.get(key, NOTHING).plus(change)
            changed.append(Row(row.start, key, *new))
            if closed:
                self.corrections += 1
                self._corrections.append((self.corrections, row.start, key))
        return changed

    def restore(self, row: Row) -> None:
        """Take back a row, of any series, as `put` gave it."""
        sums = self._slice(row.start)
        self._details += row.key != ALL and row.key not in sums
        sums[row.key] = Sums(row.bytes, row.messages, row.late)

    def resume(self, closed_until: int, first: int, detailed_from: int) -> None:
        """Go on where an earlier process stopped."""
        self.closed_until, self._first, self._detailed_from = closed_until, first or None, detailed_from

    def settle(self, until: int) -> bool:
        """Close what ends at or before `until`; tell whether that is anything."""
        until -= until % BASE
        if until <= self.closed_until:
            return False
        if self._first is None:
            self._first = until
        self.closed_until = until
        self._trim()
        return True

    def last(self, shape: Shape, count: int, key: str = ALL) -> list[Window]:
        """Give up to `count` closed windows of a series, newest last."""
        if self._first is None:
            return []
        first = self._first if key == ALL else max(self._first, self._detailed_from)
        newest = self.closed_until - self.closed_until % shape.hop - shape.size
        oldest = max(first - first % shape.hop, newest - (count - 1) * shape.hop)
        return [self.window(shape, start, key) for start in range(oldest, newest + 1, shape.hop)]

    def running(self, shape: Shape, now: int, key: str = ALL) -> Window:
        """Give the window of a series that runs at `now` and closes next."""
        return self.window(shape, now - now % shape.hop + shape.hop - shape.size, key)

    def window(self, shape: Shape, start: int, key: str = ALL) -> Window:
        """Give the window of a series that begins at `start`, closed or not."""
        sums = NOTHING
        for slice_ in range(start, start + shape.size, BASE):
            if (of_slice := self._sums.get(slice_)) and (found := of_slice.get(key)):
                sums = sums.plus(found)
        return Window(start, start + shape.size, *sums)

    def corrected(self, shape: Shape, after: int, key: str = ALL) -> list[Window]:
        """Give the closed windows of a series that corrections later than number `after` changed."""
        starts: set[int] = set()
        for number, start, of in reversed(self._corrections):
            if number <= after:
                break
            if of == key:
                starts.update(s for s in shape.holding(start) if s + shape.size <= self.closed_until)
        return [self.window(shape, start, key) for start in sorted(starts)]

    def senders(self, since: int) -> dict[str, Sums]:
        """Give what each sender exchanged in the slices that begin at `since` or later, by its key."""
        found: dict[str, Sums] = {}
        for start, sums in self._sums.items():
            if start >= since:
                for key, of in sums.items():
                    if "." in key:
                        found[key] = found.get(key, NOTHING).plus(of)
        return found

    def bounds(self) -> tuple[int, int]:
        """Give the start of the first slice known (0: none), and of the oldest that has all its series."""
        return self._first or 0, self._detailed_from

    def _slice(self, start: int) -> dict[str, Sums]:
        if self._first is None or start < self._first:
            self._first = start
        return self._sums.setdefault(start, {})

    def _trim(self) -> None:
        oldest = self.oldest
        for start in [s for s in self._sums if s < oldest]:
            self._details -= sum(key != ALL for key in self._sums.pop(start))
        self._first = max(self._first or 0, oldest)
        for start in sorted(self._sums) if self._details > self._max_details else ():
            if self._details <= self._max_details or start >= self.closed_until:
                break
            sums = self._sums[start]
            self._details -= sum(key != ALL for key in sums)
            self._sums[start] = {ALL: sums[ALL]}
            self._detailed_from = start + BASE
