"""What the journal lets go: the oldest of its full segments, once they are too old or all are too large."""

from collections.abc import Sequence
from typing import NamedTuple

from cloudmatch_journal.core.segments import Seal

DAY = 24 * 3600 * 1000  # ms


class Retention(NamedTuple):
    """How much is kept; 0: without limit."""

    days: float = 0.0
    size: int = 0  # bytes

    def expired(self, seals: Sequence[Seal], size: int, now: int) -> int:
        """Give how many segments go, of these, oldest first; all that is kept has `size` bytes.

        A segment goes when its newest event is too old, or while there is too much; never one from
        between others.
        """
        for count, seal in enumerate(seals):
            too_old = self.days > 0 and seal.newest < now - self.days * DAY
            too_much = 0 < self.size < size
            if not (too_old or too_much):
                return count
            size -= seal.size
        return len(seals)
