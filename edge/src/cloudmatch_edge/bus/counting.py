"""Has the sizes of delivered payloads stored in EVENTS: few facts in flight, whatever there is to count.

While JetStream is slow or away, sizes wait in the `Book`, which merges them. Nothing is refused and nothing
dropped: `cloudmatch_edge_payloads_uncounted` proves it.
"""

from collections.abc import Callable
from functools import partial

from prometheus_client import Gauge

from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract.liveness import COUNTED_WITHIN, EDGE_ISOLATED_AFTER
from cloudmatch_bus.contract.messages import DeliveriesCounted
from cloudmatch_bus.process.clock import monotonic, now_ms
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_edge.relay.book import Book, Direction, Taken, claimed_instead
from cloudmatch_edge.relay.outbound import payloads_delivered

UNSTORED = 8  # facts that JetStream has not acknowledged, at most
STUCK_AFTER = 1.0  # s with unstored facts and none stored

_counted = PlainCounter(
    "cloudmatch_edge_payloads_counted", "Payloads delivered whose sizes JetStream has stored"
)
_waiting = Gauge(
    "cloudmatch_edge_payloads_waiting", "Payloads delivered whose sizes JetStream has not stored yet"
)
_uncounted = Gauge("cloudmatch_edge_payloads_uncounted", "Payloads delivered whose sizes were lost: always 0")


class Counting:
    """Counts what one edge delivers, and claims what others may have died before counting.

    The edge at the other end of a match may claim what this one delivers, and the journal counts claims
    after a while. So a size is counted at once or not at all: what was not sent within `COUNTED_WITHIN`,
    for JetStream is away or this process was frozen or cut off, is claimed as well.

    Args:
        incarnation: µs since 1970 when the edge's process started.
        pending: how many payloads were delivered and are not reported here yet.
    """

    def __init__(self, facts: FactPublisher, edge: str, incarnation: int, pending: Callable[[], int]) -> None:
        self._facts = facts
        self._book = Book(edge, incarnation)
        self._pending = pending
        self._counting_since: float | None = None  # there is something to count
        self._flushed_at = monotonic()
        self._unstored = 0  # facts
        self._unstored_payloads = 0  # in them
        self._stored_at = 0.0  # when one was last stored, or they began to be unstored
        _waiting.set_function(lambda: self.waiting)
        _uncounted.set_function(lambda: payloads_delivered.value - _counted.value - self.waiting)

    @property
    def waiting(self) -> int:
        """How many payloads were delivered and are not known to be stored."""
        return self._pending() + self._book.payloads + self._unstored_payloads

    @property
    def stuck(self) -> bool:
        """Whether facts cannot be stored."""
        return self._unstored > 0 and monotonic() - self._stored_at > STUCK_AFTER

    def count(self, direction: Direction, first: int, sizes: list[int], *, late: bool = False) -> None:
        """Count payloads as delivered now, of these sizes in order, from number `first`; publish them at the
        next `flush`. `late`: perhaps delivered some time ago."""
        if self._counting_since is None and not late:
            self._counting_since = monotonic()
        self._book.count(direction, first, sizes, now_ms(), late=late)

    def claim(self, direction: Direction, first: int, sizes: list[int]) -> None:
        """Claim payloads that were delivered to this edge, as above; without sizes: all before `first`."""
        self._book.claim(direction, first, sizes, now_ms())

    def flush(self) -> None:
        """Publish what there is, except while too much is unstored; then once it is. Called many times a
        second: a gap shows that this process was frozen, perhaps between a delivery and now."""
        now = monotonic()
        gap, self._flushed_at = now - self._flushed_at, now
        since = self._counting_since
        if gap > EDGE_ISOLATED_AFTER or (since is not None and now - since > COUNTED_WITHIN):
            self._book.be_late()
            since = None
        while self._unstored < UNSTORED and (taken := self._book.take()) is not None:
            self._store(taken, now if since is None else since)
        self._counting_since = since if self._book.counting else None

    def _store(self, taken: Taken, since: float) -> None:
        fact, payloads = taken
        if not self._unstored:
            self._stored_at = monotonic()
        self._unstored += 1
        self._unstored_payloads += payloads
        on_stored = partial(self._stored, payloads)
        if isinstance(fact, DeliveriesCounted):
            age = monotonic() - since
            self._facts.store(fact, on_stored, partial(claimed_instead, fact), COUNTED_WITHIN - age)
        else:
            self._facts.store(fact, on_stored)

    def _stored(self, payloads: int) -> None:
        _counted.value += payloads
        self._unstored -= 1
        self._unstored_payloads -= payloads
        self._stored_at = monotonic()
        self.flush()
