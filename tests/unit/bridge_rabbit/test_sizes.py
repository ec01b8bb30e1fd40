"""The size messages that a fact becomes."""

import pytest

from cloudmatch_bridge_rabbit.core.sizes import size_messages
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.deliveries import Claim, span
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


def test_each_delivered_payload_becomes_one_message_named_by_position_and_index() -> None:
    fact = PayloadsDelivered(app="demo", at=1500, match=7, sender="a.b", receiver="c", sizes=[4, 0, 262_144])
    assert size_messages(42, fact) == [
        SizeMessage(4, "demo", "a.b", "c", 7, 1500, "42.0"),
        SizeMessage(0, "demo", "a.b", "c", 7, 1500, "42.1"),
        SizeMessage(262_144, "demo", "a.b", "c", 7, 1500, "42.2"),
    ]


def test_the_payloads_of_a_batch_are_numbered_through_all_its_spans() -> None:
    spans = [span("a", "c", 7, 12, [4, 5]), span("c", "a", 7, 0, [6])]
    fact = DeliveriesCounted(app="demo", at=1500, source="edge-0", incarnation=1, number=1, spans=spans)
    assert size_messages(42, fact) == [
        SizeMessage(4, "demo", "a", "c", 7, 1500, "42.0"),
        SizeMessage(5, "demo", "a", "c", 7, 1500, "42.1"),
        SizeMessage(6, "demo", "c", "a", 7, 1500, "42.2"),
    ]


def test_reported_bytes_become_one_message_without_receiver_or_match() -> None:
    fact = AmountReported(app="demo", at=3, device="a", event_type="bytesSent", amount=12)
    assert size_messages(1, fact) == [SizeMessage(12, "demo", "a", "", 0, 3, "1.0")]


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
def test_a_fact_without_payload_sizes_becomes_no_message(fact: AnyFact) -> None:
    assert size_messages(1, fact) == []
