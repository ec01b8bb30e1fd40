"""How much of one device is read in a second; the rest waits. Pure: the time is an argument."""

UNLIMITED = 1e12  # frames, or bytes, a second


class Pace:
    """Frames and bytes, each as from a token bucket with a second's worth, which the last frame may exceed.

    Args:
        frames: in a second, over time; 0: unlimited.
        size: bytes in a second, over time; 0: unlimited.
    """

    def __init__(self, frames: float, size: float) -> None:
        self._frame_rate, self._byte_rate = frames or UNLIMITED, size or UNLIMITED
        self._frames = self._most_frames = max(1.0, self._frame_rate)
        self._bytes = self._most_bytes = max(1.0, self._byte_rate)
        self._at = 0.0

    def credit(self, now: float) -> tuple[int, int]:
        """Return how many frames and bytes may be read now; none while either is not positive."""
        passed, self._at = now - self._at, now
        frames, size = self._frames + passed * self._frame_rate, self._bytes + passed * self._byte_rate
        self._frames = frames = min(self._most_frames, frames)
        self._bytes = size = min(self._most_bytes, size)
        return int(frames), int(size)

    def use(self, frames: int, size: int) -> None:
        """Note what was read."""
        self._frames -= frames
        self._bytes -= size

    def wait(self) -> float:
        """Return the seconds until a frame and a byte may be read."""
        return max(0.0, (1 - self._frames) / self._frame_rate, (1 - self._bytes) / self._byte_rate)
