"""Counters for what happens with every payload: only the event loop adds to them, so they need no lock."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class PlainCounter(Collector):
    """A counter of Prometheus, as cheap as an integer: add to `value`.

    Args:
        name: without ``_total``.
    """

    def __init__(self, name: str, about: str) -> None:
        self.value = 0
        self._name = name
        self._about = about
        REGISTRY.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give it to who reads the metrics."""
        yield CounterMetricFamily(self._name, self._about, value=self.value)
