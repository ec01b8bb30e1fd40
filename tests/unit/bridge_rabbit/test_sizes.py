"""What facts count, and the sizes of their spans."""

import pytest

from cloudmatch_bridge_rabbit.core.sizes import payloads, runs, spans
from cloudmatch_bus.contract.deliveries import Claim, Span, span
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceLeft,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)


def test_a_batch_counts_its_spans() -> None:
    counted = [span("a", "c", 7, 12, [4, 5]), span("c", "a", 7, 0, [6])]
    fact = DeliveriesCounted(app="demo", at=1, source="edge-0", incarnation=1, number=1, spans=counted)
    assert (spans(fact), payloads(fact)) == (counted, 3)


def test_a_fact_of_former_edges_counts_one_span() -> None:
    fact = PayloadsDelivered(app="demo", at=1500, match=7, sender="a.b", receiver="c", sizes=[4, 0, 262_144])
    assert spans(fact) == [span("a.b", "c", 7, 0, [4, 0, 262_144])]


def test_reported_bytes_are_one_payload_without_receiver_or_match() -> None:
    fact = AmountReported(app="demo", at=3, device="a", event_type="bytesSent", amount=12)
    assert spans(fact) == [span("a", "", 0, 0, [12])]


@pytest.mark.parametrize(
    "fact",
    [
        AmountReported(app="x", at=1, device="a", event_type="connectionsOpen", amount=1),
        DeviceConnected(app="x", at=1, device="a", edge="e", connection_id=1, lat=0, lon=0),
        DeviceLeft(app="x", at=1, device="a", edge="e", connection_id=1, code=1000),
        MatchMade(app="x", at=1, match=1, device="a", peer="b", distance=0),
        MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left"),
        PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[]),
        DeliveriesClaimed(
            app="x", at=1, source="e", incarnation=1, number=1, claims=[Claim("a", "b", 1, delivered=3)]
        ),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_any_other_fact_counts_nothing(fact: AnyFact) -> None:
    assert (spans(fact), payloads(fact)) == ([], 0)


def test_sizes_are_runs_of_equal_ones() -> None:
    assert runs(Span("a", "b", 7, 0, 4, 200, "64*3,8")) == ([(64, 3), (8, 1)], True)


@pytest.mark.parametrize(
    "text", ["", "4", "64,64,72,1", "-64,264", "64,64,72*0", "64*4,-56*1", "200*1,0*0", "nonsense", "4**2"]
)
def test_sizes_that_do_not_fit_the_totals_are_replaced_by_equal_ones_that_do(text: str) -> None:
    assert runs(Span("a", "b", 7, 0, 3, 200, text)) == ([(66, 1), (67, 2)], False)
