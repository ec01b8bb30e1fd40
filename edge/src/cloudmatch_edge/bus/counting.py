"""Has the sizes of delivered payloads stored in EVENTS: few facts in flight, whatever there is to count.

While JetStream is slow or away, sizes wait in the `Book`, which merges them. Nothing is refused and nothing
dropped: `cloudmatch_edge_payloads_uncounted` proves it.
"""

from collections.abc import Callable
from functools import partial

from prometheus_client import Gauge

from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_edge.relay.book import Book, Direction
from cloudmatch_edge.relay.outbound import payloads_delivered

UNSTORED = 8  # facts that JetStream has not acknowledged, at most

_counted = PlainCounter(
    "cloudmatch_edge_payloads_counted", "Payloads delivered whose sizes JetStream has stored"
)
_waiting = Gauge(
    "cloudmatch_edge_payloads_waiting", "Payloads delivered whose sizes JetStream has not stored yet"
)
_uncounted = Gauge("cloudmatch_edge_payloads_uncounted", "Payloads delivered whose sizes were lost: always 0")


class Counting:
    """Counts what one edge delivers.

    Args:
        incarnation: µs since 1970 when the edge's process started.
        pending: how many payloads were delivered and are not reported here yet.
    """

    def __init__(self, facts: FactPublisher, edge: str, incarnation: int, pending: Callable[[], int]) -> None:
        self._facts = facts
        self._book = Book(edge, incarnation)
        self._pending = pending
        self._unstored = 0  # facts
        self._unstored_payloads = 0  # in them
        _waiting.set_function(lambda: self.waiting)
        _uncounted.set_function(lambda: payloads_delivered.value - _counted.value - self.waiting)

    @property
    def waiting(self) -> int:
        """How many payloads were delivered and are not known to be stored."""
        return self._pending() + self._book.payloads + self._unstored_payloads

    def count(self, direction: Direction, first: int, sizes: list[int]) -> None:
        """Count payloads as delivered now, of these sizes in order, from number `first`; publish them at the
        next `flush`."""
        self._book.add(direction, first, sizes, now_ms())

    def flush(self) -> None:
        """Publish what there is, except while too much is unstored; then once it is."""
        while self._unstored < UNSTORED and (fact := self._book.take()) is not None:
            payloads = sum([span.payloads for span in fact.spans])
            self._unstored += 1
            self._unstored_payloads += payloads
            self._facts.store(fact, partial(self._stored, payloads))

    def _stored(self, payloads: int) -> None:
        _counted.value += payloads
        self._unstored -= 1
        self._unstored_payloads -= payloads
        self.flush()
