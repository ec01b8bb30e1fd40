"""The idle time-out of a proxy: connections break off after the same silence again and again. Pure.

Times are seconds; those of a clock are of one that does not go back.
"""

from collections import deque

RECENT = 10  # connections that broke off: what the latest have in common counts
ALIKE = 5  # of them with the same silence
# s by which silences that are the same may differ, or their share of the silence
TOLERANCE, SHARE = 0.25, 0.05
SHORTEST = 0.5  # s; a shorter silence is none
REMEMBERED = 600.0  # s


class IdleTimeouts:
    """The latest connections that broke off without a farewell: when, and after which silence."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add(self, now: float, silence: float) -> None:
        """Add a connection that broke off."""
        self._ends.append((silence, now))

    def suspected(self, now: float) -> float:
        """Return the silence that ends connections; 0 if there is none.

        Connections that break off at the same moment have something else in common.
        """
        ends = sorted(each for each in self._ends if each[1] > now - REMEMBERED and each[0] >= SHORTEST)
        for first in range(len(ends) - ALIKE + 1):
            alike = ends[first : first + ALIKE]
            shortest, longest = alike[0][0], alike[-1][0]
            moments = [at for _, at in alike]
            same = longest - shortest <= max(TOLERANCE, SHARE * shortest)
            if same and max(moments) - min(moments) >= shortest:
                return alike[ALIKE // 2][0]
        return 0.0
