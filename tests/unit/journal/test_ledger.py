"""The states of devices and matches that facts fold into."""

import functools
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Claim, Span, span
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
)
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.core.states import DeviceState, Direction, MatchState

APP = "demo"


def connected(connection_id: int, device: str = "a", at: int = 0) -> DeviceConnected:
    where: dict[str, Any] = {"edge": "e1", "lat": 1, "lon": 2}
    return DeviceConnected(app=APP, at=at, device=device, connection_id=connection_id, **where)


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


def counted(*spans: Span, at: int = 0) -> DeliveriesCounted:
    return DeliveriesCounted(app=APP, at=at, source="edge-0", incarnation=1, number=1, spans=list(spans))


def claims(*some: Claim, at: int = 0) -> DeliveriesClaimed:
    return DeliveriesClaimed(app=APP, at=at, source="edge-1", incarnation=1, number=1, claims=list(some))


def settle_all(ledger: Ledger) -> None:
    ledger.settle(list(ledger.claims))


def folded(*facts: AnyFact) -> Ledger:
    ledger = Ledger()
    for position, fact in enumerate(facts, 1):
        assert ledger.fold(position, fact)
    return ledger


def device(ledger: Ledger, name: str = "a") -> DeviceState:
    state = ledger.device(APP, name)
    assert state is not None
    return state


def test_every_span_of_a_batch_counts_for_its_sender_receiver_and_match() -> None:
    spans = [span("a", "b", 7, 0, [4, 5]), span("b", "a", 7, 0, [6]), span("a", "", 0, 0, [3])]
    ledger = folded(counted(*spans, at=9), claims(Claim("a", "b", 7, delivered=2), at=10))
    a, b = device(ledger), device(ledger, "b")
    assert (a.messages_sent, a.bytes_sent, a.messages_received, a.bytes_received) == (3, 12, 1, 6)
    assert (b.messages_sent, b.bytes_sent, b.messages_received, b.bytes_received) == (1, 6, 2, 9)
    match = ledger.match(7)
    assert match is not None
    assert [(d.sender, d.payloads, d.bytes) for d in match.directions] == [("a", 2, 9), ("b", 1, 6)]


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
def test_a_device_is_connected_while_its_newest_connection_is_open(
    facts: list[AnyFact], open_now: int
) -> None:
    assert device(folded(*facts)).connections_open == open_now


def lost(low: int, high: int, reason: Any = "expired") -> FactsLost:
    return FactsLost(app=APP, at=0, low=low, high=high, missing=high - low - 1, reason=reason)


def test_a_loss_is_known_once_by_where_it_begins_and_why() -> None:
    ledger = Ledger.decode(folded(lost(3, 9), lost(3, 9), lost(3, 7), lost(3, 9, "damaged")).encode())
    assert [(each.low, each.high, each.missing, each.reason) for each in ledger.losses] == [
        (3, 9, 5, "expired"),
        (3, 9, 5, "damaged"),
    ]
    assert ledger.knows_loss(3, 9, "expired")
    assert not ledger.knows_loss(3, 10, "expired")
    assert len(ledger) == 0


def test_reported_amounts_are_added_to_observed_ones() -> None:
    reports = reported("connectionsOpen", 2), reported("bytesSent", 10)
    state = device(folded(connected(1), delivered(4), *reports))
    assert (state.connections_open, state.bytes_sent, state.messages_sent) == (3, 14, 1)


def test_a_report_that_is_stored_twice_is_counted_once_also_after_a_restart() -> None:
    number = functools.partial(msgspec.structs.replace, reported("bytesSent", 10), source="journal-reports")
    ledger = folded(number(incarnation=1, number=1), number(incarnation=1, number=3))
    ledger = Ledger.decode(ledger.encode())
    again = [(1, 3), (1, 2), (1, 2), (2, 1), (1, 1)]
    for position, (incarnation, each) in enumerate(again, 3):
        assert ledger.fold(position, number(incarnation=incarnation, number=each))
    assert device(ledger).bytes_sent == 40


def test_payloads_count_for_sender_and_receiver() -> None:
    ledger = folded(delivered(4, 6), delivered(1, sender="b", receiver="a"))
    a, b = device(ledger, "a"), device(ledger, "b")
    assert (a.bytes_sent, a.messages_sent, a.bytes_received, a.messages_received) == (10, 2, 1, 1)
    assert (b.bytes_sent, b.messages_sent, b.bytes_received, b.messages_received) == (1, 1, 10, 2)


def test_a_match_has_its_devices_times_amounts_and_end() -> None:
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
        directions=[
            Direction(sender="a", receiver="b", payloads=2, bytes=10, unnumbered=True),
            Direction(sender="b", receiver="a", payloads=1, bytes=3, unnumbered=True),
        ],
    )
    assert device(ledger, "a").matches == device(ledger, "b").matches == 1


def test_the_length_of_a_ledger_is_the_number_of_devices_and_matches() -> None:
    assert len(Ledger()) == 0
    assert len(folded(connected(1), connected(2, device="z"), made())) == 4


def test_a_position_is_folded_once() -> None:
    ledger = folded(delivered(4), delivered(5))
    assert not ledger.fold(1, delivered(4))
    assert not ledger.fold(2, delivered(5))
    assert device(ledger).bytes_sent == 9


def test_a_snapshot_of_other_rules_is_refused() -> None:
    saved = folded(connected(1)).encode().replace(b'"version":3', b'"version":0')
    with pytest.raises(ValueError, match="version 0"):
        Ledger.decode(saved)


def test_a_snapshot_of_other_rules_is_accepted_where_its_facts_are_dropped() -> None:
    saved = folded(connected(1)).encode().replace(b'"version":3', b'"version":0')
    assert states(Ledger.decode(saved, any_version=True)) == states(folded(connected(1)))


def test_a_match_is_forgotten_once_it_has_ended_and_its_facts_are_dropped() -> None:
    ledger = folded(made(), delivered(4), ended(), connected(1))
    assert ledger.forget(before=3) == 0
    assert ledger.forget(before=4) == 1
    assert ledger.match(7) is None
    assert device(ledger, "a").bytes_sent == 4


def test_a_running_match_is_never_forgotten() -> None:
    ledger = folded(made(), delivered(4))
    assert ledger.forget(before=100) == 0
    assert ledger.match(7) is not None


OLDER = (
    b'{"version":2,"position":4,"devices":[{"app":"demo","device":"a","session":5,"connected":true,'
    b'"connections_reported":0,"bytes_sent":10,"bytes_received":3,"messages_sent":2,"messages_received":1,'
    b'"matches":1,"last_seen":150}],"matches":[{"match":7,"app":"demo","devices":["a","b"],"distance":12.5,'
    b'"made_at":100,"ended_at":null,"ended_by":null,"reason":null,"position":4,"ways":[{"sender":"a",'
    b'"receiver":"b","payloads":2,"bytes":10},{"sender":"b","receiver":"a","payloads":0,"bytes":0}]}]}'
)


def test_a_snapshot_of_an_older_version_is_still_decoded_where_its_facts_are_dropped() -> None:
    with pytest.raises(ValueError, match="version 2"):
        Ledger.decode(OLDER)
    ledger = Ledger.decode(OLDER, any_version=True)
    assert device(ledger).connection_id == 5
    match = ledger.match(7)
    assert match is not None
    assert [(d.sender, d.bytes, d.unnumbered) for d in match.directions] == [("a", 10, True), ("b", 0, False)]


def test_what_was_counted_without_numbers_is_never_missing() -> None:
    for ledger in (
        Ledger.decode(OLDER, any_version=True),
        folded(delivered(4), claims(Claim("a", "b", 7, 9)), made(), delivered(6)),
    ):
        ledger.fold(5, claims(Claim("a", "b", 7, 9)))
        assert (list(ledger.claims), ledger.unaccounted) == ([], 0)
    ledger = folded(made(), claims(Claim("a", "b", 7, 9)))
    settle_all(ledger)
    assert ledger.unaccounted == 9
    ledger.fold(3, delivered(4))
    assert ledger.unaccounted == 0


def test_a_direction_of_devices_that_are_not_in_the_match_counts_for_the_devices_only() -> None:
    ledger = folded(
        made(), counted(span("c", "a", 7, 0, [4])), claims(Claim("c", "a", 7, 5)), delivered(4, sender="c")
    )
    assert device(ledger, "c").bytes_sent == 8
    match = ledger.match(7)
    assert match is not None
    assert [d.payloads for d in match.directions] == [0, 0]
    assert len(ledger.claims) == 0


def test_what_a_settled_claim_leaves_uncounted_is_unaccounted_until_a_late_count() -> None:
    ledger = folded(
        made(), counted(span("a", "b", 7, 0, [1])), claims(Claim("a", "b", 7, 5), Claim("a", "b", 7, 3))
    )
    settle_all(ledger)
    assert (len(ledger.claims), ledger.unaccounted) == (0, 4)
    ledger.fold(4, counted(span("a", "b", 7, 1, [2, 3])))
    assert ledger.unaccounted == 2
    ledger.fold(5, counted(span("a", "b", 7, 3, [4, 5, 6])))
    assert ledger.unaccounted == 0
    assert device(ledger).bytes_sent == 21


def test_a_claim_has_as_many_payloads_to_count_as_have_known_sizes() -> None:
    ledger = folded(claims(Claim("a", "b", 7, 5), Claim("a", "b", 7, 4, span("a", "b", 7, 2, [1, 1]))))
    assert sorted(ledger.uncounted(each) for each in ledger.claims) == [[], [(2, 4)]]


def test_nothing_is_unaccounted_in_a_match_whose_beginning_is_not_known() -> None:
    ledger = folded(claims(Claim("a", "b", 7, 5)))
    settle_all(ledger)
    assert (len(ledger.claims), ledger.unaccounted) == (0, 0)


def test_claims_are_forgotten_with_their_match() -> None:
    ledger = folded(made(), claims(Claim("a", "b", 7, 5)), ended())
    assert ledger.forget(before=100) == 1
    assert len(ledger.claims) == 0


devices = st.sampled_from("abc")
numbers = st.integers(1, 4)
firsts = st.integers(0, 12)


def numbered(sender: str, first: int, count: int) -> Span:
    """A span of which each payload's size is told by its number."""
    return span(sender, "b" if sender == "a" else "a", 7, first, [n % 5 for n in range(first, first + count)])


def claim(sender: str, delivered: int, known: int) -> Claim:
    known = min(known, delivered)
    last = numbered(sender, delivered - known, known) if known else None
    return Claim(sender, "b" if sender == "a" else "a", 7, delivered, last)


spans = st.builds(numbered, st.sampled_from("ab"), firsts, numbers)
batches = st.builds(lambda some, at: counted(*some, at=at), st.lists(spans, min_size=1, max_size=3), numbers)
claimed = st.builds(
    lambda some, at: claims(*some, at=at),
    st.lists(st.builds(claim, st.sampled_from("ab"), firsts, st.integers(0, 4)), min_size=1, max_size=2),
    numbers,
)
facts = st.one_of(
    batches,
    claimed,
    st.builds(connected, numbers, devices, numbers),
    st.builds(left, numbers, devices, numbers),
    st.builds(delivered, numbers, at=numbers),
    st.builds(delivered, numbers, sender=st.just("b"), receiver=st.just("a"), at=numbers),
    st.just(made(at=2)),
    st.just(ended(at=3)),
    st.builds(reported, st.sampled_from(["connectionsOpen", "bytesSent"]), numbers),
)


def states(ledger: Ledger) -> object:
    match = ledger.match(7)
    if match is not None:
        directions = sorted(match.directions, key=lambda d: d.sender)
        devices = tuple(sorted(match.devices))
        match = msgspec.structs.replace(match, devices=devices, directions=directions, position=0)
    pending = sorted(msgspec.json.encode((each.app, each.at, each.claim)) for each in ledger.claims)
    return [ledger.device(APP, name) for name in "abc"], match, ledger.repeated, ledger.unaccounted, pending


@given(st.lists(batches, max_size=12), st.lists(claimed, max_size=4), st.randoms(use_true_random=False))
def test_no_payload_is_counted_twice_or_unaccounted_if_it_is_counted(
    some: list[DeliveriesCounted], others: list[DeliveriesClaimed], rng: random.Random
) -> None:
    mixed: list[AnyFact] = [*some, *others, made()]
    rng.shuffle(mixed)
    ledger = Ledger()
    for position, fact in enumerate(mixed, 1):
        ledger.fold(position, fact)
        if rng.random() < 0.5 and ledger.device(APP, "a") and (match := ledger.match(7)) and match.made_at:
            settle_all(ledger)
    ledger.fold(len(mixed) + 1, made())
    settle_all(ledger)
    told = [(s.sender, number) for fact in some for s in fact.spans for number in range(s.first, s.end)]
    delivered = {(c.sender, n) for fact in others for c in fact.claims for n in range(c.delivered)}
    for name in "ab":
        mine = {number for sender, number in told if sender == name}
        state = ledger.device(APP, name) or DeviceState(app=APP, device=name)
        assert (state.messages_sent, state.bytes_sent) == (len(mine), sum(n % 5 for n in mine))
    assert ledger.repeated == len(told) - len(set(told))
    assert ledger.unaccounted == len(delivered - set(told))


@given(st.lists(facts, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_facts_does_not_matter(some: list[AnyFact], rng: random.Random) -> None:
    shuffled = some.copy()
    rng.shuffle(shuffled)
    some = [*some, *(connected(1, name) for name in "abc")]  # the last fact about each
    shuffled += some[-3:]
    assert states(folded(*shuffled)) == states(folded(*some))


@given(st.lists(facts, max_size=20), st.integers(0, 20))
def test_a_ledger_restored_midway_continues_as_if_never_stopped(some: list[AnyFact], at: int) -> None:
    before = folded(*some[:at])
    after = Ledger.decode(before.encode())
    for position, fact in enumerate(some, 1):
        after.fold(position, fact)
    assert states(after) == states(folded(*some))
    assert after.position == len(some)


def test_a_device_that_is_forgotten_leaves_the_books_of_its_peer_as_they_were() -> None:
    ledger = folded(made(), counted(span("a", "b", 7, 0, [4, 5])), claims(Claim("a", "b", 7, 4)), ended())
    assert (match := ledger.match(7))
    ledger.fold(5, DeviceForgotten(app=APP, at=0, device="a"))
    assert (ledger.device(APP, "a"), match.devices, match.distance) == (None, ("forgotten-5", "b"), 0)
    assert [each.claim.sender for each in ledger.claims] == ["forgotten-5"]
    ledger.fold(6, counted(span("a", "b", 7, 1, [5, 6, 7])))  # of which one is counted
    assert (match.directions[0].bytes, ledger.repeated, len(ledger.claims)) == (22, 1, 0)
    for position, device in ((7, "b"), (8, "z"), (9, "forgotten-9")):  # the last is read again, erased
        ledger.fold(position, DeviceForgotten(app=APP, at=0, device=device))
    assert (match.devices, match.ended_by) == (("forgotten-5", "forgotten-7"), "forgotten-7")
    assert [each.pseudonym for each in ledger.erasures] == ["forgotten-5", "forgotten-7", "forgotten-8"]


def test_beyond_a_number_those_of_which_nothing_was_heard_for_longest_go() -> None:
    ledger, names = Ledger(most=20), [f"{number:02}" for number in range(40)]
    for position, name in enumerate(names, 1):
        both = {"app": APP, "at": position, "match": position, "device": name, "peer": "peer"}
        match, over = MatchMade(**both, distance=1), MatchEnded(**both, reason="left")
        last = (left if name != "00" else connected)(1, name, position)  # one stays
        for number, fact in enumerate((connected(1, name, position), match, over, last)):
            if number in (0, 3) or position % 3:  # so that devices are too many first
                ledger.fold(4 * position + number, fact)
    kept = [name for name in names if ledger.device(APP, name)]
    matches = [ledger.match(number) is not None for number in range(1, 41) if number % 3]
    assert (kept, sorted(matches)) == (["00", *names[-len(kept) + 1 :]], matches)
    assert 32 <= len(ledger) - 1 == len(kept) + sum(matches) <= 42
