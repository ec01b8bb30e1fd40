"""Watermarks: how far event time has come.

A window closes when event time passes its end. If no payload follows, event time would stand still, so the
source emits watermarks. While messages arrive, the watermark is the newest time in them: after an outage
they are old, and the wall clock would close their windows before they arrive. Only once the queue has been
empty for `QUIET_MS`, the watermark is the wall clock.
"""

QUIET_MS = 500  # without a message for this long the queue counts as empty


class WatermarkClock:
    """The watermark of the messages from one connection to RabbitMQ."""

    def __init__(self, now: int) -> None:
        self._newest = 0  # the newest time in a message, ms since 1970; 0: no message yet
        self._last_arrival = now  # or the start of the connection

    def observe(self, at: int, now: int) -> None:
        """Record that a message of the time `at` arrived at `now`."""
        self._newest = max(self._newest, at)
        self._last_arrival = now

    def watermark(self, now: int) -> int | None:
        """Return the watermark at `now`, or None while it is unknown."""
        if now - self._last_arrival >= QUIET_MS:
            return now
        return self._newest or None


class PartitionWatermarks:
    """The watermark over all partitions: that of the slowest one."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._at: dict[int, int] = {}  # the newest time, ms since 1970, by partition

    def advance(self, partition: int, at: int) -> None:
        """Record a time of a partition; an older one changes nothing."""
        self._at[partition] = max(at, self._at.get(partition, 0))

    def low(self) -> int | None:
        """Return the time that all partitions have reached, or None while one is unknown."""
        return min(self._at.values()) if len(self._at) == self._partitions else None
