"""The windows that REST reads: for each size and start, the sums per sender, per app and over all.

A *series* is a key: ``<app>.<device>`` tokens for a device, ``<app>`` for an app, the empty text for all.
Sums per sender arrive by upsert, so that hearing one twice changes nothing; what arrives after its
window closed is added. A window is closed once event time has passed its end everywhere, and running
before. Between the first window known and the last closed, a window without payloads is a zero.
"""

from typing import NamedTuple

ALL = ""  # the series over all apps
SIZES = {"10s": 10_000, "60s": 60_000}  # ms
KEPT = 1440  # closed windows kept of each size
DETAILS = 200_000  # sums per device and app kept of each size, at most; the oldest windows' go first


class Sums(NamedTuple):
    """What was exchanged."""

    bytes: int = 0
    messages: int = 0


class Row(NamedTuple):
    """The sums of one series in one window."""

    size: int  # ms
    start: int  # ms since 1970
    key: str
    bytes: int
    messages: int


class Window(NamedTuple):
    """One window of one series; times in ms since 1970."""

    start: int
    end: int
    bytes: int
    messages: int


class Timeline:
    """All windows of one size, within bounds."""

    def __init__(self, size: int, *, kept: int = KEPT, details: int = DETAILS) -> None:
        self.size = size
        # sums by series, by start of the window; in no order
        self._sums: dict[int, dict[str, Sums]] = {}
        # how many sums there are besides those of `ALL`
        self._details = 0
        # windows that begin before this one have lost their sums per device and app
        self._detailed_from = 0
        # the first window known
        self._first: int | None = None
        # every window that ends at or before this time is closed
        self.closed_until = 0
        self._max_windows, self._max_details = kept, details

    def put(self, row: Row) -> list[Row]:
        """Set a device's sums; give all rows that this changes."""
        return self._change(row, self._sums.get(row.start, {}).get(row.key, Sums()))

    def add(self, row: Row) -> list[Row]:
        """Add to a device's sums what came after its window closed; give all rows that this changes."""
        return self._change(row, Sums())

    def restore(self, row: Row) -> None:
        """Take back a row, of any series, as `put` or `add` gave it."""
        sums = self._window(row.start)
        self._details += row.key != ALL and row.key not in sums
        sums[row.key] = Sums(row.bytes, row.messages)

    def resume(self, closed_until: int, detailed_from: int) -> None:
        """Go on where an earlier process stopped."""
        self.closed_until, self._detailed_from = closed_until, detailed_from
        self._first = closed_until

    def settle(self, until: int) -> list[Window]:
        """Close what ends at or before `until`; give the windows with payloads that this closes, all apps."""
        until -= until % self.size
        if until <= self.closed_until:
            return []
        if self._first is None:
            self._first = until
        news = [s for s in sorted(self._sums) if self.closed_until < s + self.size <= until]
        self.closed_until = until
        self._trim()
        return [self._read(start, ALL) for start in news if start in self._sums]

    def last(self, count: int, key: str = ALL) -> list[Window]:
        """Give up to `count` closed windows of a series, newest last."""
        if self._first is None:
            return []
        first = self._first if key == ALL else max(self._first, self._detailed_from)
        first = max(first, self.closed_until - count * self.size)
        return [self._read(start, key) for start in range(first, self.closed_until, self.size)]

    def running(self, now: int, key: str = ALL) -> Window:
        """Give the window of a series that runs at `now`."""
        return self._read(now - now % self.size, key)

    def oldest(self) -> tuple[int, int]:
        """Give the start of the oldest window kept, and of the oldest that has all its series."""
        return min(self._sums, default=0), self._detailed_from

    def _window(self, start: int) -> dict[str, Sums]:
        if self._first is None or start < self._first:
            self._first = start
        return self._sums.setdefault(start, {})

    def _change(self, row: Row, before: Sums) -> list[Row]:
        if row.start < self.closed_until - self._max_windows * self.size:
            return []  # older than anything kept
        sums = self._window(row.start)
        keys = [row.key, row.key.partition(".")[0], ALL] if row.start >= self._detailed_from else [ALL]
        changed = []
        for key in keys:
            old = sums.get(key)
            self._details += key != ALL and old is None
            old = old or Sums()
            new = Sums(old.bytes + row.bytes - before.bytes, old.messages + row.messages - before.messages)
            sums[key] = new
            changed.append(Row(self.size, row.start, key, *new))
        return changed

    def _read(self, start: int, key: str) -> Window:
        sums = self._sums.get(start, {}).get(key, Sums())
        return Window(start, start + self.size, *sums)

    def _trim(self) -> None:
        oldest = self.closed_until - self._max_windows * self.size
        for start in [s for s in self._sums if s < oldest]:
            self._details -= sum(key != ALL for key in self._sums.pop(start))
        self._first = max(self._first or 0, oldest)
        for start in sorted(self._sums):
            if self._details <= self._max_details or start >= self.closed_until:
                break
            sums = self._sums[start]
            self._details -= sum(key != ALL for key in sums)
            self._sums[start] = {ALL: sums[ALL]}
            self._detailed_from = start + self.size
