"""The status of the source's process, in memory that the service shares with it."""

import time
from collections.abc import Iterator
from multiprocessing import get_context

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

SILENCE = 5.0  # s without a sign of life after which the source counts as stuck
MAX_REASON = 200  # bytes


class SourceStatus:
    """Written by the source, read by the service. Passed to the source's process when it starts."""

    def __init__(self) -> None:
        spawn = get_context("spawn")
        self._last_alive = spawn.RawValue("d", 0.0)  # monotonic, s
        self._consumed = spawn.RawValue("Q", 0)
        self._rejected = spawn.RawValue("Q", 0)
        self._reason = spawn.RawArray("c", MAX_REASON + 1)
        self.set_waiting("the source has not started")

    def set_consuming(self) -> None:
        """Record that the source is consuming."""
        self._reason.value = b""
        self._last_alive.value = time.monotonic()

    def set_waiting(self, reason: str) -> None:
        """Record why the source is not consuming."""
        self._reason.value = reason.encode(errors="replace")[:MAX_REASON]

    def count(self, consumed: int = 0, rejected: int = 0) -> None:
        """Count messages produced to Kafka, and unreadable ones."""
        self._consumed.value += consumed
        self._rejected.value += rejected

    @property
    def consumed(self) -> int:
        return int(self._consumed.value)

    @property
    def rejected(self) -> int:
        return int(self._rejected.value)

    @property
    def problem(self) -> str | None:
        """Why the source is not consuming; None when it is."""
        if reason := bytes(self._reason.value):
            return reason.decode(errors="replace")
        silent = time.monotonic() - float(self._last_alive.value)
        return f"the source has been silent for {silent:.0f} s" if silent > SILENCE else None


class SourceMetrics(Collector):
    """The source's counters, for the service's metrics page."""

    def __init__(self, status: SourceStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counters."""
        yield CounterMetricFamily(
            "cloudmatch_analytics_messages", "Sizes consumed from RabbitMQ.", value=self._status.consumed
        )
        yield CounterMetricFamily(
            "cloudmatch_analytics_rejected", "Unreadable messages.", value=self._status.rejected
        )
