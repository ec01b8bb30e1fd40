"""Prometheus counters without a lock, for events of every payload: only the event loop increments them."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class PlainCounter(Collector):
    """A counter that costs as much as an integer: add to `value`.

    Args:
        name: without ``_total``.
    """

    def __init__(self, name: str, documentation: str) -> None:
        self.value = 0
        self._name = name
        self._documentation = documentation
        REGISTRY.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counter to the Prometheus registry."""
        yield CounterMetricFamily(self._name, self._documentation, value=self.value)
