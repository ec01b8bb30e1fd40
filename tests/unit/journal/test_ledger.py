"""What facts say of devices and matches, once folded."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeviceConnected,
    DeviceLeft,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)
from cloudmatch_journal.core.ledger import DeviceState, Ledger, MatchState, Way

APP = "demo"


def connected(connection_id: int, device: str = "a", at: int = 0) -> DeviceConnected:
    return DeviceConnected(
        app=APP, at=at, device=device, edge="e1", connection_id=connection_id, lat=1, lon=2
    )


def left(connection_id: int, device: str = "a", at: int = 0) -> DeviceLeft:
    return DeviceLeft(app=APP, at=at, device=device, edge="e1", connection_id=connection_id, code=1000)


def delivered(*sizes: int, sender: str = "a", receiver: str = "b", at: int = 0) -> PayloadsDelivered:
    return PayloadsDelivered(app=APP, at=at, match=7, sender=sender, receiver=receiver, sizes=list(sizes))


def made(at: int = 0) -> MatchMade:
    return MatchMade(app=APP, at=at, match=7, device="a", peer="b", distance=12.5)


def ended(at: int = 0) -> MatchEnded:
    return MatchEnded(app=APP, at=at, match=7, device="b", peer="a", reason="left")


def reported(event_type: str, amount: int) -> AmountReported:
    return AmountReported(app=APP, at=0, device="a", event_type=event_type, amount=amount)  # type: ignore[arg-type]


def folded(*facts: AnyFact) -> Ledger:
    ledger = Ledger()
    for position, fact in enumerate(facts, 1):
        assert ledger.fold(position, fact)
    return ledger


def device(ledger: Ledger, name: str = "a") -> DeviceState:
    state = ledger.device(APP, name)
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("facts", "open_now"),
    [
        ([connected(5)], 1),
        ([connected(5), left(5)], 0),
        ([left(5), connected(5)], 0),
        ([connected(5), connected(5)], 1),
        ([connected(5), left(5), left(5)], 0),
        ([connected(5), left(5), connected(5)], 0),
        ([connected(5), connected(6), left(5)], 1),
        ([connected(6), left(5), connected(5)], 1),
        ([connected(5), connected(6)], 1),
        ([connected(5), left(5), connected(6)], 1),
        ([connected(5), connected(6), left(6), left(5)], 0),
    ],
)
def test_open_connections_are_what_is_open_now(facts: list[AnyFact], open_now: int) -> None:
    assert device(folded(*facts)).connections_open == open_now


def test_reported_amounts_add_to_what_was_seen() -> None:
    state = device(
        folded(connected(1), delivered(4), reported("connectionsOpen", 2), reported("bytesSent", 10))
    )
    assert (state.connections_open, state.bytes_sent, state.messages_sent) == (3, 14, 1)


def test_payloads_count_for_both_ends() -> None:
    ledger = folded(delivered(4, 6), delivered(1, sender="b", receiver="a"))
    a, b = device(ledger, "a"), device(ledger, "b")
    assert (a.bytes_sent, a.messages_sent, a.bytes_received, a.messages_received) == (10, 2, 1, 1)
    assert (b.bytes_sent, b.messages_sent, b.bytes_received, b.messages_received) == (1, 1, 10, 2)


def test_a_match_tells_who_when_how_much_and_how_it_ended() -> None:
    ledger = folded(
        made(at=100), delivered(4, 6, at=150), delivered(3, sender="b", receiver="a"), ended(at=200)
    )
    assert ledger.match(7) == MatchState(
        match=7,
        app=APP,
        devices=("a", "b"),
        distance=12.5,
        made_at=100,
        ended_at=200,
        ended_by="b",
        reason="left",
        position=4,
        ways=[
            Way(sender="a", receiver="b", payloads=2, bytes=10),
            Way(sender="b", receiver="a", payloads=1, bytes=3),
        ],
    )
    assert device(ledger, "a").matches == device(ledger, "b").matches == 1


def test_last_seen_is_the_latest_time_whatever_the_order() -> None:
    assert device(folded(connected(1, at=30), delivered(1, at=10))).last_seen == 30


def test_a_match_told_twice_counts_once() -> None:
    assert device(folded(made(1), made(1))).matches == 1


def test_devices_of_one_name_in_two_apps_are_two() -> None:
    other = msgspec.structs.replace(connected(1), app="other")
    ledger = folded(connected(1), other, msgspec.structs.replace(left(1), app="other"))
    assert device(ledger).connections_open == 1
    state = ledger.device("other", "a")
    assert state is not None
    assert state.connections_open == 0


def test_unknown_devices_and_matches_are_none() -> None:
    ledger = folded(connected(1))
    assert ledger.device(APP, "z") is None
    assert ledger.device("other", "a") is None
    assert ledger.match(1) is None


def test_a_position_counts_once() -> None:
    ledger = folded(delivered(4), delivered(5))
    assert not ledger.fold(1, delivered(4))
    assert not ledger.fold(2, delivered(5))
    assert device(ledger).bytes_sent == 9


def test_a_state_of_other_rules_is_refused() -> None:
    saved = folded(connected(1)).encode().replace(b'"version":2', b'"version":0')
    with pytest.raises(ValueError, match="version 0"):
        Ledger.decode(saved)


def test_a_state_of_other_rules_serves_where_its_facts_are_gone() -> None:
    saved = folded(connected(1)).encode().replace(b'"version":2', b'"version":0')
    assert said(Ledger.decode(saved, any_rules=True)) == said(folded(connected(1)))


def test_a_match_is_forgotten_once_it_has_ended_and_its_facts_are_gone() -> None:
    ledger = folded(made(), delivered(4), ended(), connected(1))
    assert ledger.forget(before=3) == 0
    assert ledger.forget(before=4) == 1
    assert ledger.match(7) is None
    assert device(ledger, "a").bytes_sent == 4


def test_a_match_that_goes_on_is_never_forgotten() -> None:
    ledger = folded(made(), delivered(4))
    assert ledger.forget(before=100) == 0
    assert ledger.match(7) is not None


devices = st.sampled_from("abc")
numbers = st.integers(1, 4)
facts = st.one_of(
    st.builds(connected, numbers, devices, numbers),
    st.builds(left, numbers, devices, numbers),
    st.builds(delivered, numbers, at=numbers),
    st.builds(delivered, numbers, sender=st.just("b"), receiver=st.just("a"), at=numbers),
    st.just(made(at=2)),
    st.just(ended(at=3)),
    st.builds(reported, st.sampled_from(["connectionsOpen", "bytesSent"]), numbers),
)


def said(ledger: Ledger) -> object:
    match = ledger.match(7)
    if match is not None:
        match = msgspec.structs.replace(
            match,
            devices=tuple(sorted(match.devices)),
            ways=sorted(match.ways, key=lambda w: w.sender),
            position=0,
        )
    return [ledger.device(APP, name) for name in "abc"], match


@given(st.lists(facts, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_facts_does_not_matter(some: list[AnyFact], rng: random.Random) -> None:
    shuffled = some.copy()
    rng.shuffle(shuffled)
    assert said(folded(*shuffled)) == said(folded(*some))


@given(st.lists(facts, max_size=20), st.integers(0, 20))
def test_a_ledger_saved_midway_goes_on_as_if_it_never_stopped(some: list[AnyFact], at: int) -> None:
    before = folded(*some[:at])
    after = Ledger.decode(before.encode())
    for position, fact in enumerate(some, 1):
        after.fold(position, fact)
    assert said(after) == said(folded(*some))
    assert after.position == len(some)
