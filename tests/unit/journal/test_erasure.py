"""What is kept of a device that was forgotten: nothing but numbers."""

import pytest

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceForgotten,
    DeviceLeft,
    FactsLost,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
    encode,
)
from cloudmatch_journal.core.erasure import Erasure, erased, erasure, is_erased
from unit.journal.samples import claimed, counted

IN_X = {"app": "x", "at": 1}
FACTS: list[AnyFact] = [
    DeviceConnected(**IN_X, device="a", edge="e", connection_id=7, lat=1.5, lon=2.5, radius=9.0, tag="t"),
    DeviceLeft(**IN_X, device="a", edge="e", connection_id=7, code=1000),
    MatchMade(**IN_X, match=7, device="a", peer="b", distance=3.5),
    MatchMade(**IN_X, match=7, device="b", peer="a", distance=3.5),
    MatchEnded(**IN_X, match=7, device="b", peer="a", reason="left"),
    PayloadsDelivered(**IN_X, match=7, sender="a", receiver="b", sizes=[4]),
    counted(1, span("a", "b", 7, 0, [4]), span("c", "a", 8, 0, [5, 6]), app="x").fact,
    claimed(1, Claim("a", "b", 7, 3, span("a", "b", 7, 2, [9])), Claim("b", "a", 7, 1, None), app="x").fact,
    AmountReported(**IN_X, device="a", event_type="bytesSent", amount=3),
    DeviceForgotten(**IN_X, device="a"),
]
ASKED = Erasure(app="x", device="a", position=5)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.kind)
def test_every_kind_of_fact_names_the_device_by_its_pseudonym_and_keeps_its_numbers(fact: AnyFact) -> None:
    kept = erased(5, fact, [ASKED])
    text = encode(kept).decode()
    assert '"a"' not in text
    assert '"forgotten-5"' in text
    assert not any(each in text for each in ("1.5", "2.5", "9.0", '"t"', "3.5"))
    assert kept.devices == tuple("forgotten-5" if each == "a" else each for each in fact.devices)
    if isinstance(fact, DeliveriesCounted):
        assert isinstance(kept, DeliveriesCounted)
        numbers = [(s.match, s.first, s.payloads, s.bytes, s.sizes) for s in kept.spans]
        assert numbers == [(s.match, s.first, s.payloads, s.bytes, s.sizes) for s in fact.spans]
    if isinstance(fact, DeliveriesClaimed):
        assert isinstance(kept, DeliveriesClaimed)
        assert [c.delivered for c in kept.claims] == [3, 1]
    assert is_erased(kept, fact)
    assert is_erased(fact, fact)
    assert erased(5, kept, [ASKED]) == kept


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.kind)
def test_what_is_later_of_another_app_or_of_others_stays(fact: AnyFact) -> None:
    assert erased(6, fact, [ASKED]) is fact
    others = [Erasure(app="y", device="a", position=5), Erasure(app="x", device="z", position=5)]
    assert erased(1, fact, others) is fact


def test_several_devices_are_erased_from_one_fact() -> None:
    made = FACTS[2]
    kept = erased(1, made, [ASKED, Erasure(app="x", device="b", position=9)])
    assert kept.devices == ("forgotten-5", "forgotten-9")
    assert is_erased(kept, made)


def test_what_is_kept_of_another_fact_is_told_apart() -> None:
    made = FACTS[2]
    assert not is_erased(erased(1, made, [ASKED]), FACTS[4])
    assert not is_erased(FACTS[1], made)
    assert not is_erased(MatchMade(**IN_X, match=8, device="forgotten-5", peer="b", distance=0), made)
    assert is_erased(
        FactsLost(**IN_X, low=1, high=2, missing=0, reason="damaged"),
        FactsLost(**IN_X, low=1, high=2, missing=0, reason="damaged"),
    )


def test_a_fact_that_names_nobody_any_more_asks_for_nothing() -> None:
    assert erasure(5, DeviceForgotten(**IN_X, device="a")) == ASKED
    assert erasure(5, DeviceForgotten(**IN_X, device="forgotten-5")) is None
    assert erasure(6, DeviceForgotten(**IN_X, device="forgotten-5")) is not None
