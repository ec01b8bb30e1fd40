"""Sizes are published with few facts in flight; what is not known to be stored shows in the metrics."""

from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from cloudmatch_bus.contract.messages import AnyFact, DeliveriesCounted
from cloudmatch_edge.bus.counting import UNSTORED, Counting
from cloudmatch_edge.relay.book import Direction
from cloudmatch_edge.relay.outbound import payloads_delivered


class FakePublisher:
    """Keeps facts until `stored` is called."""

    def __init__(self) -> None:
        self.facts: list[tuple[DeliveriesCounted, Callable[[], None]]] = []

    def store(self, fact: AnyFact, on_stored: Callable[[], None]) -> None:
        assert isinstance(fact, DeliveriesCounted)
        self.facts.append((fact, on_stored))

    def stored(self) -> DeliveriesCounted:
        """JetStream has stored the oldest fact."""
        fact, on_stored = self.facts.pop(0)
        on_stored()
        return fact


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


def counting(publisher: FakePublisher, pending: int = 0) -> Counting:
    return Counting(publisher, "edge-0", 5, lambda: pending)  # type: ignore[arg-type]  # it stores like the real one


def direction(app: int = 0) -> Direction:
    return Direction(f"app-{app}", 1, "a", "b")


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"cloudmatch_edge_payloads_{name}") or 0


def test_nothing_is_published_before_a_flush(publisher: FakePublisher) -> None:
    one = counting(publisher)
    one.flush()
    one.count(direction(), 0, [1, 2])
    one.count(direction(), 2, [3])
    assert publisher.facts == []
    one.flush()
    one.flush()
    assert [span.sizes for fact, _ in publisher.facts for span in fact.spans] == ["1,2,3"]


def test_while_facts_are_not_stored_sizes_are_merged_and_nothing_is_refused(publisher: FakePublisher) -> None:
    one = counting(publisher)
    for number in range(10_000):
        one.count(direction(), number, [number])
        one.flush()
    assert len(publisher.facts) == UNSTORED
    assert one.waiting == 10_000
    found = []
    while publisher.facts:
        found += publisher.stored().spans
        assert len(publisher.facts) <= UNSTORED
    assert [span.first for span in found] == list(range(UNSTORED + 1))
    assert sum(span.payloads for span in found) == 10_000
    assert sum(span.bytes for span in found) == sum(range(10_000))
    assert one.waiting == 0


def test_a_fact_that_is_stored_makes_room_for_the_next(publisher: FakePublisher) -> None:
    one = counting(publisher)
    for app in range(3 * UNSTORED):
        one.count(direction(app), 0, [1])
    one.flush()
    apps = []
    while publisher.facts:
        apps.append(publisher.stored().app)
    assert apps == [f"app-{app}" for app in range(3 * UNSTORED)]


def test_what_was_delivered_is_stored_or_waits(publisher: FakePublisher) -> None:
    one = counting(publisher, pending=2)
    before = metric("counted_total")
    missing = metric("uncounted")
    payloads_delivered.value += 7
    for first in range(5):
        one.count(direction(), first, [1])
        one.flush() if first == 1 else None
    assert metric("waiting") == 7
    assert metric("uncounted") == missing + 2, "two more than before are pending"
    publisher.stored()
    assert metric("waiting") == 5
    assert metric("counted_total") == before + 2
    assert metric("uncounted") == missing + 2
