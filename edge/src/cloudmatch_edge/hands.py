"""What of the payloads given to a device is in its hands: what it has said that it has.

A device that never says so is served too. Once half a window waits for a word of it, and none has come
for a while, what its socket took counts as received: else its peer would wait for ever. The same holds for
one whose words cannot be heard, because its own payloads, for which there is no room, stand before them.

No clock here: `now` arrives with the event, in seconds.
"""

from collections import deque
from collections.abc import Iterable

from cloudmatch_edge.window import WINDOW_BYTES, WINDOW_FRAMES

PRESUME = 1.0  # s without a word


class Hands:
    """One direction of a match, at the device that receives. The first `base` payloads are received."""

    def __init__(self, base: int) -> None:
        self.taken = base  # all payloads before are in the device's hands
        self._sizes: deque[int] = deque()  # bytes of those given and not known to be received
        self._bytes = 0
        self._since = 0.0  # when it last said something, or had nothing to say

    @property
    def empty(self) -> bool:
        """Whether all that was given is received."""
        return not self._sizes

    def give(self, sizes: Iterable[int], now: float) -> None:
        """Payloads of these sizes, in bytes, were written to the device's socket."""
        if self.empty:
            self._since = now
        for size in sizes:
            self._sizes.append(size)
            self._bytes += size

    def take(self, total: int, now: float) -> bool:
        """The device has the first `total` payloads; tell whether that is news."""
        news = min(total - self.taken, len(self._sizes))
        for _ in range(news):
            self._bytes -= self._sizes.popleft()
            self.taken += 1
        self._since = now
        return news > 0

    def presume(self, now: float, audible: bool) -> bool:
        """Take all that was given as received, if it must be; tell whether it was.

        Args:
            audible: whether the device has ever said what it has, and what it says can be heard.
        """
        if audible or now - self._since < PRESUME:
            return False
        if len(self._sizes) < WINDOW_FRAMES // 2 and self._bytes < WINDOW_BYTES // 2:
            return False
        return self.take(self.taken + len(self._sizes), now)

    def skip(self, base: int) -> None:
        """Payloads before `base` can never come."""
        self._sizes.clear()
        self._bytes = 0
        self.taken = base
