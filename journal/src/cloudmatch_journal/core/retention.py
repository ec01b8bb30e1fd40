"""Retention: drop the oldest full segments once they are too old or all events take too much space."""

from collections.abc import Sequence
from typing import NamedTuple

from cloudmatch_journal.core.segments import Seal

DAY = 24 * 3600 * 1000  # ms


class Retention(NamedTuple):
    """The limits; 0: none."""

    days: float = 0.0
    size: int = 0  # bytes

    def expired(self, seals: Sequence[Seal], size: int, now: int) -> int:
        """Return how many of these segments to drop, oldest first, when all events take `size` bytes.

        A segment expires when its newest event is too old, or while there are too many bytes; never before
        an older one.
        """
        for count, seal in enumerate(seals):
            too_old = self.days > 0 and seal.newest < now - self.days * DAY
            too_much = 0 < self.size < size
            if not (too_old or too_much):
                return count
            size -= seal.size
        return len(seals)
