"""The status of the source's process, in memory that the service shares with it."""

import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

SILENCE = 5.0  # s without a sign of life after which the source counts as stuck
MAX_REASON = 200  # bytes


class SourceStatus:
    """Written by the source, read by the service. Passed to the source's process when it starts."""

    def __init__(self, queues: Sequence[str]) -> None:
        spawn = get_context("spawn")
        self.queues = list(queues)
        self._last_alive = spawn.RawValue("d", 0.0)  # monotonic, s
        # by queue
        self._consumed = spawn.RawArray("Q", len(queues))
        self._rejected = spawn.RawArray("Q", len(queues))
        self._copies = spawn.RawArray("Q", len(queues))
        self._ahead = spawn.RawValue("Q", 0)
        self._reason = spawn.RawArray("c", MAX_REASON + 1)
        self.set_waiting("the source has not started")

    def set_consuming(self) -> None:
        """Record that the source is consuming."""
        self._reason.value = b""
        self._last_alive.value = time.monotonic()

    def set_waiting(self, reason: str) -> None:
        """Record why the source is not consuming."""
        self._reason.value = reason.encode(errors="replace")[:MAX_REASON]

    def count(self, queue: str, consumed: int = 0, rejected: int = 0, copies: int = 0) -> None:
        """Count messages of a queue: produced to Kafka, unreadable, and copies of what another queue has."""
        index = self.queues.index(queue)
        self._consumed[index] += consumed
        self._rejected[index] += rejected
        self._copies[index] += copies

    def count_ahead(self, payloads: int) -> None:
        """Count sizes whose time was ahead of the clock."""
        self._ahead.value += payloads

    @property
    def ahead(self) -> int:
        """How many sizes had a time that was ahead of the clock."""
        return int(self._ahead.value)

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Return (queue, consumed, rejected, copies) of each queue."""
        return list(zip(self.queues, self._consumed, self._rejected, self._copies, strict=True))

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
        messages = _counter("messages", "Sizes consumed from RabbitMQ.")
        rejected = _counter("rejected", "Unreadable messages.")
        copies = _counter("copies", "Messages that another queue has, not counted again.")
        for queue, *counts in self._status.counts():
            for counter, value in zip((messages, rejected, copies), counts, strict=True):
                counter.add_metric([queue], value)
        ahead = CounterMetricFamily(
            "cloudmatch_analytics_ahead", "Sizes from clocks ahead of this one; counted at their arrival."
        )
        ahead.add_metric([], self._status.ahead)
        yield from (messages, rejected, copies, ahead)


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"cloudmatch_analytics_{name}", text, labels=["queue"])
