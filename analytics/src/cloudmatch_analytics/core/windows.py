"""The windows behind the REST API: sums per sender, per app and over all.

Only *slices* of `BASE` are stored; a longer window, tumbling or hopping, is the sum of its slices, so that
windows of all shapes agree. A *series* is named ``<app>.<device>`` (as tokens) for a sender, ``<app>`` for an
app, and the empty text for all.

A window is closed once event time has passed its end in every partition, and running before that. What is
added to a closed slice is *late*: it counts, is counted as late, and is recorded as a correction. From the
first known slice to the last closed one, a slice without payloads is zero.

Sums in memory have no limit; what leaves it is `MAX_SUM` at most.

Event time comes from clocks, and clocks jump. So closed slices may be reopened, and slices are dropped for
their age only where payloads are that much newer, a few at a time.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from cloudmatch_analytics.core.forgotten import NOBODY, Forgotten, unknown
from cloudmatch_bus.contract.subjects import token

ALL = ""  # the series over all apps
BASE = 10_000  # ms; length of a slice
SIZES = {"10s": 10_000, "60s": 60_000}  # ms; multiples of BASE, each of the one before
LONGEST = max(SIZES.values())
RETAINED = 24 * 3_600_000  # ms of closed slices
MAX_DETAILS = 200_000  # sums per device and app, at most; the oldest slices lose theirs first
MAX_CORRECTIONS = 10_000  # the newest are remembered for live streams
MAX_DROPPED = 6  # slices that are dropped at once, at most: six times as many as are added
MAX_SUM = 2**63 - 1  # what databases and JSON can hold; it stands for every larger sum


@lru_cache(100_000)
def sender_series(app: str, device: str) -> str:
    """Name the series of a sender; an empty device means that the sender is unknown."""
    return f"{token(app)}.{token(device)}"


def app_series(app: str) -> str:
    """Name the series of an app."""
    return token(app)


def saturated(number: int) -> int:
    """Return a sum as it is shown and stored."""
    return min(number, MAX_SUM)


class Sums(NamedTuple):
    """What was exchanged."""

    bytes: int = 0
    messages: int = 0
    late: int = 0  # of the messages, those that arrived after the slice had closed


NO_SUMS = 0, 0, 0


def by_sender(slices: Iterable[Mapping[str, tuple[int, int, int]]]) -> dict[str, Sums]:
    """Add up what each sender has sent in slices, by series."""
    found: dict[str, tuple[int, int, int]] = {}
    for sums in slices:
        for series, sent in sums.items():
            if "." in series:
                known = found.get(series, NO_SUMS)
                found[series] = known[0] + sent[0], known[1] + sent[1], known[2] + sent[2]
    return {series: Sums(*map(saturated, sums)) for series, sums in found.items()}


class Row(NamedTuple):
    """The sums of one series in one slice."""

    start: int  # ms since 1970
    series: str
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


class Bounds(NamedTuple):
    """Which slices are known and retained; times in ms since 1970."""

    closed_until: int = 0  # every slice that ends at or before this is closed
    first: int = 0  # start of the first known slice; 0: none
    detailed_from: int = 0  # start of the oldest slice with all its series


class Shape(NamedTuple):
    """Windows of `size` ms, one beginning every `hop` ms. Both are multiples of `BASE`."""

    size: int
    hop: int

    def starts_around(self, start: int) -> Iterator[int]:
        """Yield the start of each window that contains the slice beginning at `start`."""
        last = start - start % self.hop
        return iter(range(last, start - self.size, -self.hop))


class Timeline:
    """All slices, within limits."""

    def __init__(self, *, retained: int = RETAINED, max_details: int = MAX_DETAILS) -> None:
        # sums by series, by start of the slice; unordered
        # plain tuples of bytes, messages, late: garbage collection does not look at them
        self._sums: dict[int, dict[str, tuple[int, int, int]]] = {}
        # number of sums except those of `ALL`
        self._details = 0
        # slices that begin before this have lost their sums per device and app
        self._detailed_from = 0
        # start of the first known slice, and end of the last one that has sums; 0: none has
        self._first: int | None = None
        self._newest = 0
        # every slice that ends at or before this is closed
        self.closed_until = 0
        # number of the last correction
        self.corrections = 0
        # number, start of the slice, series
        self._corrections: deque[tuple[int, int, str]] = deque(maxlen=MAX_CORRECTIONS)
        self._forgotten = Forgotten()
        self._retained, self._max_details = retained, max_details

    @property
    def oldest(self) -> int:
        """Start of the oldest slice that may be retained: a window of each shape begins there."""
        oldest = min(self.closed_until, self._newest) - self._retained
        return oldest - oldest % LONGEST

    @property
    def forgotten(self) -> Forgotten:
        """Which senders are forgotten."""
        return self._forgotten

    @property
    def bounds(self) -> Bounds:
        """Which slices are known and retained."""
        return Bounds(self.closed_until, self._first or 0, self._detailed_from)

    def update(self, row: Row) -> list[Row]:
        """Set a sender's sums unless larger ones are known; return all rows that this changes.

        Sums of former versions only grow: applying them twice or in another order changes nothing.
        """
        if row.start < self.oldest or "." not in row.series:
            return []
        known = Sums(*self._sums.get(row.start, {}).get(row.series, NO_SUMS))
        added = row.messages - known.messages
        if added <= 0 and row.bytes <= known.bytes:
            return []
        is_late = row.start + BASE <= self.closed_until
        change = Sums(row.bytes - known.bytes, added, added if is_late else 0)
        detailed = row.start >= self._detailed_from
        series = (row.series, row.series.partition(".")[0], ALL) if detailed else (ALL,)
        changed = [self._add(row.start, each, change) for each in series]
        if is_late:
            self._correct(row.start, series)
        return changed

    def add(self, start: int, sent: Mapping[str, tuple[int, int]]) -> list[str]:
        """Add bytes and payloads of senders, by series; return the series of all sums that this changes."""
        if start < self.oldest:
            return []
        sent = self._forgotten.renamed(start, sent)
        is_late = start + BASE <= self.closed_until
        apps: dict[str, tuple[int, int]] = {}
        for series, (amount, messages) in sent.items():
            app, dot, _ = series.partition(".")
            if not dot:  # it names no sender
                return self.add(start, {each: sums for each, sums in sent.items() if "." in each})
            known = apps.get(app, (0, 0))
            apps[app] = known[0] + amount, known[1] + messages
        total = sum([amount for amount, _ in apps.values()]), sum([messages for _, messages in apps.values()])
        detailed = start >= self._detailed_from
        for changes in (sent, apps, {ALL: total}) if detailed else ({ALL: total},):
            self._add_all(start, changes, is_late=is_late)
        changed = [*sent, *apps, ALL] if detailed else [ALL]
        if is_late:
            self._correct(start, changed)
        return changed

    def forget(self, series: str, until: int) -> None:
        """Make what a sender sent in slices that begin up to `until` an unknown sender's, whenever it comes.

        The sums of its app and over all stay.
        """
        self._forgotten.add(series, until)
        name = unknown(series)
        for start, sums in self._sums.items():
            if start <= until and (found := sums.pop(series, None)):
                known = sums.get(name, NO_SUMS)
                sums[name] = known[0] + found[0], known[1] + found[1], known[2] + found[2]
                self._details -= known is not NO_SUMS
        renamed = [
            (number, start, name if corrected == series and start <= until else corrected)
            for number, start, corrected in self._corrections
        ]
        self._corrections = deque(renamed, MAX_CORRECTIONS)

    def _add_all(self, start: int, sent: Mapping[str, tuple[int, int]], *, is_late: bool) -> None:
        """Add to sums, fast: most of the work of analytics is done here."""
        sums = self._slice(start)
        size = len(sums)
        if is_late:
            for series, (amount, messages) in sent.items():
                known = sums.get(series, NO_SUMS)
                sums[series] = known[0] + amount, known[1] + messages, known[2] + messages
        else:
            for series, (amount, messages) in sent.items():
                known = sums.get(series, NO_SUMS)
                sums[series] = known[0] + amount, known[1] + messages, known[2]
        self._details += 0 if ALL in sent else len(sums) - size

    def _correct(self, start: int, changed: Iterable[str]) -> None:
        for series in changed:
            self.corrections += 1
            self._corrections.append((self.corrections, start, series))

    def rows(self, start: int, changed: Iterable[str]) -> list[Row]:
        """Return the sums of a slice that belong to these series and are retained."""
        sums = self._sums.get(start, {})
        return [Row(start, series, *map(saturated, sums[series])) for series in changed if series in sums]

    def all_series(self) -> dict[int, set[str]]:
        """Return the series of all sums that are retained, by the start of their slice."""
        return {start: set(sums) for start, sums in self._sums.items()}

    def _add(self, start: int, series: str, change: Sums) -> Row:
        sums = self._slice(start)
        self._details += series != ALL and series not in sums
        known = sums.get(series, NO_SUMS)
        sums[series] = total = known[0] + change[0], known[1] + change[1], known[2] + change[2]
        return Row(start, series, *total)

    def restore(self, bounds: Bounds, forgotten: Mapping[str, int] = NOBODY) -> None:
        """Continue from what an earlier process saved."""
        self._forgotten = Forgotten(forgotten)
        self.closed_until, self._detailed_from = bounds.closed_until, bounds.detailed_from
        self._first = bounds.first or None

    def restore_row(self, row: Row) -> None:
        """Set a row, of any series, that `rows` once returned."""
        sums = self._slice(row.start)
        self._details += row.series != ALL and row.series not in sums
        sums[row.series] = row.bytes, row.messages, row.late

    def reopen(self, now: int) -> bool:
        """Reopen slices that have not ended at `now`; return whether more than the next one was closed."""
        if self.closed_until <= now + BASE:
            return False
        self.closed_until = now - now % BASE
        self._first = min(self._first or self.closed_until, self.closed_until)
        return True

    def close(self, until: int) -> bool:
        """Close all slices that end at or before `until`; return whether there were any."""
        until -= until % BASE
        if until <= self.closed_until:
            return False
        if self._first is None:
            self._first = until
        self.closed_until = until
        self._trim()
        return True

    def last(self, shape: Shape, count: int, series: str = ALL) -> list[Window]:
        """Return up to `count` closed windows of a series, newest last."""
        return [self.window(shape, start, series) for start in self.starts(shape, count, series)]

    def starts(self, shape: Shape, count: int, series: str = ALL) -> range:
        """Return when up to `count` closed windows of a series begin, newest last."""
        if self._first is None:
            return range(0)
        first = self._first if series == ALL else max(self._first, self._detailed_from)
        newest = self.closed_until - self.closed_until % shape.hop - shape.size
        oldest = max(first - first % shape.hop, newest - (count - 1) * shape.hop)
        return range(oldest, newest + 1, shape.hop)

    def running(self, shape: Shape, now: int, series: str = ALL) -> Window:
        """Return the window of a series that is running at `now` and closes next."""
        return self.window(shape, now - now % shape.hop + shape.hop - shape.size, series)

    def window(self, shape: Shape, start: int, series: str = ALL) -> Window:
        """Return the window of a series that begins at `start`, closed or not."""
        total = NO_SUMS
        for slice_start in range(start, start + shape.size, BASE):
            if (sums := self._sums.get(slice_start)) and (found := sums.get(series)):
                total = total[0] + found[0], total[1] + found[1], total[2] + found[2]
        return Window(start, start + shape.size, *map(saturated, total))

    def corrected(self, shape: Shape, after: int, series: str = ALL) -> list[Window]:
        """Return the closed windows of a series that were corrected after correction number `after`."""
        starts: set[int] = set()
        for number, start, corrected in reversed(self._corrections):
            if number <= after:
                break
            if corrected == series:
                starts.update(s for s in shape.starts_around(start) if s + shape.size <= self.closed_until)
        return [self.window(shape, start, series) for start in sorted(starts)]

    def senders(self, since: int) -> dict[str, Sums]:
        """Return what each sender has sent in the slices that begin at `since` or later, by series."""
        return by_sender(self.slices(since))

    def slices(self, since: int) -> list[dict[str, tuple[int, int, int]]]:
        """Return copies of the sums by series in the slices that begin at `since` or later."""
        return [dict(sums) for start, sums in self._sums.items() if start >= since]

    def _slice(self, start: int) -> dict[str, tuple[int, int, int]]:
        if self._first is None or start < self._first:
            self._first = start
        self._newest = max(self._newest, start + BASE)
        return self._sums.setdefault(start, {})

    def _trim(self) -> None:
        oldest = self.oldest
        old = sorted(start for start in self._sums if start < oldest)
        for start in old[:MAX_DROPPED]:
            self._details -= sum(series != ALL for series in self._sums.pop(start))
        self._forgotten.expire(oldest)
        still = old[MAX_DROPPED] if len(old) > MAX_DROPPED else oldest
        self._first = max(self._first or 0, still)
        for start in sorted(self._sums) if self._details > self._max_details else ():
            if self._details <= self._max_details or start >= self.closed_until:
                break
            self._drop_details(start)

    def _drop_details(self, start: int) -> None:
        sums = self._sums[start]
        self._details -= sum(series != ALL for series in sums)
        self._sums[start] = {ALL: sums[ALL]}
        self._detailed_from = start + BASE
