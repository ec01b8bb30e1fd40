"""A fact's sizes."""

from cloudmatch_bridge_rabbit.core.sizes import Size, sizes
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeviceConnected,
    DeviceLeft,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)


def test_each_payload_delivered_gives_one_message_named_by_position_and_index() -> None:
    fact = PayloadsDelivered(app="demo", at=1500, match=7, sender="a.b", receiver="c", sizes=[4, 0, 65536])
    headers = {"app": "demo", "from": "a.b", "to": "c", "match": 7, "at": 1500}
    assert sizes(42, fact) == [
        Size("42.0", "demo.a=2Eb", b"4", 1500, headers),
        Size("42.1", "demo.a=2Eb", b"0", 1500, headers),
        Size("42.2", "demo.a=2Eb", b"65536", 1500, headers),
    ]


def test_reported_bytes_give_one_message_to_nobody() -> None:
    fact = AmountReported(app="demo", at=3, device="a", event_type="bytesSent", amount=12)
    assert sizes(1, fact) == [
        Size("1.0", "demo.a", b"12", 3, {"app": "demo", "from": "a", "to": "", "match": 0, "at": 3})
    ]


def test_a_fact_without_bytes_gives_nothing() -> None:
    facts: list[AnyFact] = [
        AmountReported(app="x", at=1, device="a", event_type="connectionsOpen", amount=1),
        DeviceConnected(app="x", at=1, device="a", edge="e", connection_id=1, lat=0, lon=0),
        DeviceLeft(app="x", at=1, device="a", edge="e", connection_id=1, code=1000),
        MatchMade(app="x", at=1, match=1, device="a", peer="b", distance=0),
        MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left"),
        PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[]),
    ]
    assert [sizes(1, fact) for fact in facts] == [[]] * len(facts)
