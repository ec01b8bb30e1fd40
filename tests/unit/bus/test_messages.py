"""Each fact knows its kind, the device that its subject names and all devices involved."""

import pytest

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceLeft,
    Fact,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
    decode_fact,
    encode,
)

CONNECTED = DeviceConnected(app="demo", at=1, device="a", edge="e", connection_id=5, lat=1.0, lon=2.0)
LEFT = DeviceLeft(app="demo", at=1, device="a", edge="e", connection_id=5, code=1000)
MADE = MatchMade(app="demo", at=1, match=7, device="a", peer="c", distance=1.5)
ENDED = MatchEnded(app="demo", at=1, match=7, device="a", peer="c", reason="left")
DELIVERED = PayloadsDelivered(app="demo", at=1, match=7, sender="a", receiver="c", sizes=[4])
COUNTED = DeliveriesCounted(
    app="demo", at=1, source="a", incarnation=5, number=1, spans=[span("a", "c", 7, 0, [4])]
)
CLAIMED = DeliveriesClaimed(
    app="demo", at=1, source="a", incarnation=5, number=1, claims=[Claim("c", "a", 7, delivered=3)]
)
REPORTED = AmountReported(app="demo", at=1, device="a", event_type="bytesSent", amount=4)


@pytest.mark.parametrize(
    ("fact", "kind", "devices"),
    [
        (CONNECTED, "connected", ("a",)),
        (LEFT, "left", ("a",)),
        (MADE, "matched", ("a", "c")),
        (ENDED, "unmatched", ("a", "c")),
        (DELIVERED, "delivered", ("a", "c")),
        (COUNTED, "deliveries", ("a", "c")),
        (CLAIMED, "claimed", ("c", "a")),
        (REPORTED, "reported", ("a",)),
    ],
)
def test_a_fact_names_its_kind_its_primary_device_and_all_devices_involved(
    fact: AnyFact, kind: str, devices: tuple[str, ...]
) -> None:
    assert (fact.kind, fact.primary_device, fact.devices) == (kind, "a", devices)
    assert decode_fact(encode(fact)) == fact


def test_only_the_kinds_of_facts_name_devices() -> None:
    with pytest.raises(NotImplementedError):
        _ = Fact(app="demo", at=1).devices
