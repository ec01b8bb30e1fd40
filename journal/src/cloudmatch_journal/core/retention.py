"""Retention: drop the oldest full segments once they are too old or all events take too much space.

No clock is trusted alone. What is too old is measured at the smaller of this process' clock and the time of
the last event, and must be so at two looks in a row: while clocks jump for some seconds, nothing is dropped.
While clocks stay wrong, each look drops a share at most.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cloudmatch_journal.core.segments import Seal

DAY = 24 * 3600 * 1000  # ms
SHARE = 8  # at most one segment of so many expires by age at one look


class Retention(NamedTuple):
    """The limits; 0: none."""

    days: float = 0.0
    size: int = 0  # bytes

    def too_old(self, seals: Sequence[Seal], now: int) -> int:
        """Return how many of these segments, oldest first, are too old at `now` (ms since 1970).

        A segment is as old as its newest event, and never too old before an older one.
        """
        if not self.days:
            return 0
        times = _times(seals, now)
        return next((n for n, time in enumerate(times) if time >= now - self.days * DAY), len(seals))

    def too_much(self, seals: Sequence[Seal], size: int) -> int:
        """Return how many of these segments to drop, oldest first, when all events take `size` bytes."""
        for count, seal in enumerate(seals):
            if not 0 < self.size < size:
                return count
            size -= seal.size
        return len(seals)


def _times(seals: Sequence[Seal], now: int) -> list[int]:
    """Return the time of each segment; one from the future is as old as the next, which came after it."""
    return list(_backwards(seals, now))[::-1]


def _backwards(seals: Sequence[Seal], now: int) -> Iterator[int]:
    time = now
    for seal in reversed(seals):
        time = seal.newest if seal.newest <= now else time
        yield time


class Ageing:
    """Which segments expire by age, look by look. A look is of use only some time after the one before it."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._suspected = 0  # position up to which segments were too old at the last look

    def look(self, seals: Sequence[Seal], now: int) -> tuple[int, int]:
        """Return how many of these segments, oldest first, to drop at this look, and how many are too old."""
        count = self._retention.too_old(seals, now)
        confirmed = sum(seal.last <= self._suspected for seal in seals[:count])
        self._suspected = seals[count - 1].last if count else 0
        return min(confirmed, max(1, len(seals) // SHARE)), count
