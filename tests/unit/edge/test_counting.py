"""Sizes are published with few facts in flight; what is not known to be stored shows in the metrics."""

import math
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from cloudmatch_bus.contract.liveness import COUNTED_WITHIN, EDGE_ISOLATED_AFTER
from cloudmatch_bus.contract.messages import AnyFact, DeliveriesClaimed, DeliveriesCounted
from cloudmatch_bus.process import clock
from cloudmatch_edge.bus.counting import STUCK_AFTER, UNSTORED, Counting
from cloudmatch_edge.relay.book import Direction, claimed_instead
from cloudmatch_edge.relay.outbound import payloads_delivered


class FakePublisher:
    """Keeps facts until `stored` is called."""

    def __init__(self) -> None:
        self.facts: list[tuple[AnyFact, Callable[[], None]]] = []
        self.substitutes: list[tuple[AnyFact, float]] = []

    def store(
        self,
        fact: AnyFact,
        on_stored: Callable[[], None],
        substitute: Callable[[], AnyFact] | None = None,
        within: float = math.inf,
    ) -> None:
        self.facts.append((fact, on_stored))
        if substitute is not None:
            self.substitutes.append((substitute(), within))

    def stored(self) -> AnyFact:
        """JetStream has stored the oldest fact."""
        fact, on_stored = self.facts.pop(0)
        on_stored()
        return fact

    def counted(self) -> DeliveriesCounted:
        """The same, and it counts."""
        fact = self.stored()
        assert isinstance(fact, DeliveriesCounted)
        return fact

    def claimed(self) -> DeliveriesClaimed:
        """The same, and it claims."""
        fact = self.stored()
        assert isinstance(fact, DeliveriesClaimed)
        return fact


class Clock:
    """The module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "time", made)
    return made


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
    assert len(publisher.facts) == 1
    assert [span.sizes for span in publisher.counted().spans] == ["1,2,3"]


def test_while_facts_are_not_stored_sizes_are_merged_and_nothing_is_refused(publisher: FakePublisher) -> None:
    one = counting(publisher)
    for number in range(10_000):
        one.count(direction(), number, [number])
        one.flush()
    assert len(publisher.facts) == UNSTORED
    assert one.waiting == 10_000
    found = []
    while publisher.facts:
        found += publisher.counted().spans
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


def test_what_cannot_be_sent_in_time_is_claimed(publisher: FakePublisher, time: Clock) -> None:
    one = counting(publisher)
    for number in range(UNSTORED):
        one.count(direction(), number, [1])
        one.flush()
    one.count(direction(), UNSTORED, [2])
    for _ in range(10):
        time.now += COUNTED_WITHIN / 10
        one.flush()
    one.count(direction(), UNSTORED + 1, [3])
    time.now += 0.1
    one.flush()
    for number in range(UNSTORED):
        assert publisher.counted().spans[0].first == number
    [claim] = publisher.claimed().claims
    assert claim.span is not None
    assert list(claim.span.each_size()) == [2, 3]
    assert publisher.facts == []
    assert one.waiting == 0
    one.count(direction(), UNSTORED + 2, [4])
    one.flush()
    assert publisher.counted().spans[0].sizes == "4"


def test_after_a_freeze_what_was_delivered_before_is_claimed_even_if_it_was_reported_after(
    publisher: FakePublisher, time: Clock
) -> None:
    one = counting(publisher)
    one.flush()
    time.now += EDGE_ISOLATED_AFTER + 0.1
    one.count(direction(), 0, [1])
    one.flush()
    assert publisher.claimed().claims[0].delivered == 1
    one.count(direction(), 1, [1])
    one.flush()
    assert publisher.counted().spans[0].first == 1


def test_a_fact_that_is_sent_again_too_late_becomes_a_claim(publisher: FakePublisher, time: Clock) -> None:
    one = counting(publisher)
    one.count(direction(), 0, [1])
    time.now += 1
    one.flush()
    fact, _ = publisher.facts[0]
    assert isinstance(fact, DeliveriesCounted)
    [(substitute, within)] = publisher.substitutes
    assert substitute == claimed_instead(fact)
    assert within == pytest.approx(COUNTED_WITHIN - 1)


def test_claims_of_what_others_delivered_do_not_wait_as_ours(publisher: FakePublisher, time: Clock) -> None:
    one = counting(publisher)
    one.claim(direction(), 3, [4, 5])
    one.count(direction(1), 0, [1], late=True)
    assert one.waiting == 1
    one.flush()
    assert publisher.claimed().claims[0].delivered == 1
    assert one.waiting == 0
    assert publisher.claimed().claims[0].delivered == 5
    assert publisher.substitutes == []


def test_it_is_stuck_while_facts_are_unstored_and_none_is_stored(
    publisher: FakePublisher, time: Clock
) -> None:
    one = counting(publisher)
    time.now += 100
    assert not one.stuck
    for number in range(2):
        one.count(direction(), number, [1])
        one.flush()
    assert not one.stuck
    time.now += STUCK_AFTER + 0.1
    assert one.stuck
    publisher.stored()
    assert not one.stuck
    time.now += STUCK_AFTER + 0.1
    assert one.stuck
    publisher.stored()
    assert not one.stuck
