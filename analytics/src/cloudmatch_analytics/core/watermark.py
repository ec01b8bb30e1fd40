"""Watermarks: how far event time has come.

A window closes when event time passes its end. If no payload follows, event time would stand still, so the
source emits watermarks. While messages arrive, the watermark is the newest time in them: after an outage
they are old, and the wall clock would close their windows before they arrive. Only once the queue has been
empty for `QUIET_MS`, the watermark is the wall clock.

Each queue has a clock of its own, and the oldest watermark counts: what is fresh in one queue closes no
window over the backlog of another.
"""

from collections.abc import Iterable

QUIET_MS = 500  # without a message for this long the queue counts as empty


class WatermarkClock:
    """The watermark of the messages from one queue, over one connection to RabbitMQ. Times: ms since 1970."""

    def __init__(self, now: int) -> None:
        self._newest = 0  # the newest time in a message; 0: no message yet
        self._waiting = 0  # messages that have arrived, and were not observed yet
        self._busy_at = now  # of the last message or its ack, or the start of the connection

    def arrive(self) -> None:
        """Record that a message has arrived, to be observed later."""
        self._waiting += 1

    def observe(self, at: int, now: int) -> None:
        """Record the time `at` of the message that arrived first; 0: it has none. It is `now`."""
        self._waiting -= 1
        self._newest = max(self._newest, at)
        self._busy_at = now

    def acknowledge(self, now: int) -> None:
        """Record that messages were acknowledged: those that RabbitMQ held back until then arrive now."""
        self._busy_at = now

    def watermark(self, now: int) -> int | None:
        """Return the watermark at `now`, or None while it is unknown."""
        if not self._waiting and now - self._busy_at >= QUIET_MS:
            return now
        return self._newest or None


def low_watermark(clocks: Iterable[WatermarkClock], now: int) -> int | None:
    """Return the time that all queues have reached at `now`, or None while one is unknown."""
    watermarks = [clock.watermark(now) for clock in clocks]
    known = [at for at in watermarks if at is not None]
    return min(known) if known and len(known) == len(watermarks) else None


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
