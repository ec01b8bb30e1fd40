"""Watermarks: how far event time has come.

A window closes when event time passes its end. If no payload follows, event time would stand still, so the
source emits watermarks. While messages arrive, the watermark is the newest time in them: after an outage
they are old, and the clock would close their windows before they arrive. Only once RabbitMQ has said twice
that the queue is empty, and nothing has arrived for `QUIET_MS`, the watermark is the clock. If messages keep
arriving in an empty queue, there is no backlog, and old times in them are of edges whose clocks are behind:
these hold windows up for `PATIENCE_MS`, and are late after that.

Each queue has a clock of its own, and the oldest watermark counts: what is fresh in one queue closes no
window over the backlog of another.
"""

from collections.abc import Iterable

QUIET_MS = 500  # without a message for this long an empty queue counts as quiet
PATIENCE_MS = 10_000  # for which messages with old times hold windows up
FRESH_MS = 3_000  # for which it counts that the queue was empty


class WatermarkClock:
    """The watermark of the messages from one queue, over one connection to RabbitMQ. Times: ms since 1970."""

    def __init__(self, now: int) -> None:
        self._newest = 0  # the newest time in a message; 0: no message yet
        self._waiting = 0  # messages that have arrived, and were not observed yet
        self._busy_at = now  # of the last message or its ack, or the start of the connection
        self._was_empty = False  # when RabbitMQ was asked last
        self._backlog: int | None = None  # waiting messages from before the queue was empty
        self._drained_at: int | None = None  # when all from before the queue was empty was observed

    def arrive(self) -> None:
        """Record that a message has arrived, to be observed later."""
        self._waiting += 1

    def observe(self, at: int, now: int) -> None:
        """Record the time `at` of the message that arrived first; 0: it has none. It is `now`."""
        self._waiting -= 1
        self._newest = max(self._newest, at)
        self._busy_at = now
        if self._backlog is not None:
            self._set_backlog(self._backlog - 1, now)

    def acknowledge(self, now: int) -> None:
        """Record that messages were acknowledged: those that RabbitMQ held back until then arrive now."""
        self._busy_at = now

    def look(self, messages: int, now: int) -> None:
        """Record how many messages RabbitMQ holds back. It may say 0 before it delivers the last ones."""
        if messages == 0 and self._was_empty and self._backlog is None:
            self._set_backlog(self._waiting, now)
        self._was_empty = messages == 0
        if messages:
            self._backlog = self._drained_at = None

    def _set_backlog(self, backlog: int, now: int) -> None:
        self._backlog = backlog or None
        if not backlog:
            self._drained_at = now

    def watermark(self, now: int) -> int | None:
        """Return the watermark at `now`, or None while it is unknown."""
        newest = min(self._newest, now)
        if self._drained_at is None or now - self._drained_at > FRESH_MS:
            return newest or None
        quiet = not self._waiting and abs(now - self._busy_at) >= QUIET_MS  # the clock may be set back
        return now if quiet else max(newest, now - PATIENCE_MS)


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
        """Record a time of a partition; an older one changes nothing, nor does that of none."""
        if 0 <= partition < self._partitions:
            self._at[partition] = max(at, self._at.get(partition, 0))

    @property
    def slowest(self) -> int:
        """The partition that the others wait for."""
        return min(range(self._partitions), key=lambda partition: self._at.get(partition, 0))

    def low(self, now: int) -> int | None:
        """Return the time that all partitions have reached, or None while one is unknown.

        What is after `now` is of a clock that was wrong, and forgotten.
        """
        self._at = {partition: min(at, now) for partition, at in self._at.items()}
        return min(self._at.values()) if len(self._at) == self._partitions else None
