"""What of the payloads given to a device is in its hands: what it has said that it has.

A device that never says so is served too. Once half a window waits for a word of it, and none has come
for a while, what its socket took counts as received: else its peer would wait for ever. The same holds for
one whose words cannot be heard, because its own payloads, for which there is no room, stand before them.

No clock here: `now` arrives with the event, in seconds.
"""

from collections import deque

from cloudmatch_edge.relay.window import WINDOW_BYTES, WINDOW_FRAMES

PRESUME = 1.0  # s without a word


class Hands:
    """One direction of a match, at the device that receives. The first `base` payloads are received."""

    def __init__(self, base: int) -> None:
        self.taken = base  # all payloads before are in the device's hands
        self._given = base  # all payloads before were written to its socket
        self._waiting: deque[tuple[int, int]] = deque()  # of batches not wholly taken: where they end, bytes
        self._bytes = 0  # of these batches
        self._since = 0.0  # when it last said something, or had nothing to say

    @property
    def empty(self) -> bool:
        """Whether all that was given is received."""
        return self.taken == self._given

    def give(self, count: int, size: int, now: float) -> None:
        """So many payloads, of `size` bytes in all, were written to the device's socket."""
        if self.empty:
            self._since = now
        self._given += count
        self._waiting.append((self._given, size))
        self._bytes += size

    def take(self, total: int, now: float) -> bool:
        """The device has the first `total` payloads; tell whether that is news."""
        self._since = now
        total = min(total, self._given)
        if total <= self.taken:
            return False
        self.taken = total
        while self._waiting and self._waiting[0][0] <= total:
            self._bytes -= self._waiting.popleft()[1]
        return True

    def presume(self, now: float, audible: bool) -> bool:
        """Take all that was given as received, if it must be; tell whether it was.

        Args:
            audible: whether the device has ever said what it has, and what it says can be heard.
        """
        if audible or now - self._since < PRESUME:
            return False
        if self._given - self.taken < WINDOW_FRAMES // 2 and self._bytes < WINDOW_BYTES // 2:
            return False
        return self.take(self._given, now)

    def skip(self, base: int) -> None:
        """Payloads before `base` can never come."""
        self._waiting.clear()
        self._bytes = 0
        self.taken = self._given = base
