"""Facts as readers of the journal see them."""

from cloudmatch_bus.contract.deliveries import Claim, Span, span
from cloudmatch_bus.contract.messages import (
    DeliveriesClaimed,
    DeliveriesCounted,
    MatchEnded,
    PayloadsDelivered,
)
from cloudmatch_journal.core.shown import MAX_SIZES, PayloadsClaimed, shown

SPANS = [span("a", "b", 7, 3, [4, 5]), span("b", "a", 7, 0, [6, 6, 6]), span("c", "d", 8, 0, [1])]
COUNTED = DeliveriesCounted(app="x", at=9, source="edge-0", incarnation=1, number=1, spans=SPANS)


def delivered(match: int, sender: str, receiver: str, *sizes: int) -> PayloadsDelivered:
    return PayloadsDelivered(app="x", at=9, match=match, sender=sender, receiver=receiver, sizes=list(sizes))


def test_a_batch_is_shown_as_one_fact_for_each_span() -> None:
    assert list(shown(COUNTED)) == [
        delivered(7, "a", "b", 4, 5),
        delivered(7, "b", "a", 6, 6, 6),
        delivered(8, "c", "d", 1),
    ]


def test_a_batch_is_shown_to_a_device_without_what_is_not_about_it() -> None:
    assert list(shown(COUNTED, "b")) == [delivered(7, "a", "b", 4, 5), delivered(7, "b", "a", 6, 6, 6)]
    assert list(shown(COUNTED, "5")) == []


def test_claims_are_shown_with_the_sizes_that_are_known() -> None:
    claims = [Claim("a", "b", 7, 5, SPANS[0]), Claim("b", "a", 7, 2)]
    fact = DeliveriesClaimed(app="x", at=9, source="edge-0", incarnation=1, number=1, claims=claims)
    some, none = shown(fact)
    assert some == PayloadsClaimed(
        app="x", at=9, match=7, sender="a", receiver="b", delivered=5, sizes=[4, 5]
    )
    assert (some.kind, some.primary_device, some.devices) == ("claimed", "a", ("a",))
    assert isinstance(none, PayloadsClaimed)
    assert (none.delivered, none.sizes) == (2, [])
    assert list(shown(fact, "c")) == []


def test_other_facts_are_shown_as_they_are() -> None:
    fact = MatchEnded(app="x", at=9, match=7, device="a", peer="b", reason="left")
    assert list(shown(fact)) == [fact]


def test_no_more_than_a_million_sizes_of_a_batch_are_shown() -> None:
    endless = Span("a", "b", 7, 0, 10**9, 0, "0*1000000000")
    claims = [Claim("a", "b", 7, 10**9, endless)] * 2
    about = {"app": "x", "at": 9, "source": "edge-0", "incarnation": 1, "number": 1}
    for fact in (
        DeliveriesCounted(**about, spans=[SPANS[0], endless, endless]),  # type: ignore[arg-type]
        DeliveriesClaimed(**about, claims=claims),  # type: ignore[arg-type]
    ):
        assert sum(len(getattr(each, "sizes", ())) for each in shown(fact)) == MAX_SIZES
