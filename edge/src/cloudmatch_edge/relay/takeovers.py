"""How long a device waits before it may take over its id from a connection that is alive.

A device that reconnects quickly takes over at once. Two clients with one id that both reconnect whenever they
are replaced would go on as fast as they can, and match and unmatch others: they wait longer each time.
"""

FREE = 3  # takeovers at once
PAUSE = 0.25, 5.0  # s between further ones: the first, doubling, and the longest
QUIET = 30.0  # s without a takeover, after which an id starts again


class Takeovers:
    """The ids of one edge that were taken over lately. Times are s, of any clock that only grows."""

    def __init__(self) -> None:
        # id → how often, and when last; the latest at the end
        self._recent: dict[str, tuple[int, float]] = {}

    def note(self, device: str, now: float) -> None:
        """Note that a live connection of a device was replaced."""
        while self._recent and now - self._recent[oldest := next(iter(self._recent))][1] >= QUIET:
            del self._recent[oldest]
        count, _ = self._recent.pop(device, (0, now))
        self._recent[device] = count + 1, now

    def pause(self, device: str, now: float) -> float:
        """Return the seconds until a device may be taken over."""
        count, last = self._recent.get(device, (0, 0.0))
        if count < FREE:
            return 0.0
        return max(0.0, last + min(PAUSE[0] * 2.0 ** min(count - FREE, 16), PAUSE[1]) - now)

    def __len__(self) -> int:
        return len(self._recent)
