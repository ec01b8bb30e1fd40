"""What was delivered is published once, with exact numbers and sums, however long it has to wait."""

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Claim, Span
from cloudmatch_bus.contract.deliveries import span as made_span
from cloudmatch_bus.contract.messages import DeliveriesClaimed, DeliveriesCounted, encode
from cloudmatch_edge.relay import book
from cloudmatch_edge.relay.book import (
    FACT_BYTES,
    FACT_SPANS,
    RUN_GROUPS,
    RUN_SIZES,
    SLICE,
    Book,
    Direction,
    claimed_instead,
)

AB, BA = Direction("demo", 7, "a", "b"), Direction("demo", 7, "b", "a")


def made() -> Book:
    return Book("edge-0", 5)


def facts(of: Book) -> list[DeliveriesCounted]:
    """Take everything."""
    found = []
    while (taken := of.take()) is not None:
        assert isinstance(taken.fact, DeliveriesCounted)
        assert taken.payloads == sum(span.payloads for span in taken.fact.spans)
        found.append(taken.fact)
    assert of.payloads == 0
    assert not of.counting
    return found


def claims(of: Book) -> list[tuple[int, list[Claim]]]:
    """Take everything, which must be claims; return how many payloads of each fact are the edge's own."""
    found = []
    while (taken := of.take()) is not None:
        assert isinstance(taken.fact, DeliveriesClaimed)
        found.append((taken.payloads, taken.fact.claims))
    return found


def spans(of: Book) -> list[Span]:
    return [span for fact in facts(of) for span in fact.spans]


def check(span: Span) -> None:
    """The totals of a span are those of its sizes."""
    sizes = list(span.each_size())
    assert (len(sizes), sum(sizes)) == (span.payloads, span.bytes)


def test_a_lone_payload_is_a_batch_of_one() -> None:
    one = made()
    assert one.take() is None
    one.count(AB, 3, [4], 12_345)
    assert one.payloads == 1
    assert facts(one) == [
        DeliveriesCounted(
            app="demo",
            at=12_345,
            source="edge-0",
            incarnation=5,
            number=1,
            spans=[Span("a", "b", 7, 3, 1, 4, "4")],
        )
    ]
    one.count(AB, 4, [4], 12_345)
    assert [fact.number for fact in facts(one)] == [2]


def test_all_directions_of_an_app_share_a_fact_and_what_follows_on_shares_a_span() -> None:
    one = made()
    one.count(AB, 0, [1, 2], 1000)
    one.count(BA, 0, [3], 1001)
    one.count(AB, 2, [4], 1002)
    one.count(AB, 9, [5], 900)
    one.count(Direction("other", 8, "a", "b"), 0, [6], 1000)
    demo, other = facts(one)
    assert (demo.app, demo.at, other.app) == ("demo", 1002, "other")
    assert sorted((s.sender, s.first, s.sizes) for s in demo.spans) == [
        ("a", 0, "1,2,4"),
        ("a", 9, "5"),
        ("b", 0, "3"),
    ]


def test_slices_of_time_are_facts_of_their_own_the_oldest_first() -> None:
    one = made()
    one.count(AB, 0, [1], SLICE - 1)
    one.count(AB, 1, [2], SLICE)
    assert [(fact.at, fact.spans[0].first) for fact in facts(one)] == [(SLICE - 1, 0), (SLICE, 1)]


def test_equal_sizes_stay_as_they_are_however_many() -> None:
    one = made()
    for first in range(0, 100 * RUN_SIZES, 64):
        one.count(AB, first, [64] * 64, 0)
    [span] = spans(one)
    check(span)
    assert set(span.each_size()) == {64}
    assert len(span.sizes) < 20


def test_of_many_different_sizes_the_latest_stay_as_they_are_and_the_sum_is_exact() -> None:
    sizes = [number % 100 for number in range(RUN_SIZES + 1)]
    one = made()
    one.count(AB, 0, sizes[:-1], 0)
    one.count(AB, RUN_SIZES, sizes[-1:], 0)
    one.count(AB, len(sizes), [1000], 0)
    [span] = spans(one)
    check(span)
    assert span.bytes == sum(sizes) + 1000
    *evened, last = span.each_size()
    assert last == 1000
    assert max(evened) - min(evened) == 1


def test_groups_of_equal_sizes_are_evened_out_beyond_a_limit() -> None:
    one = made()
    total = 0
    for number in range(RUN_GROUPS + 1):
        one.count(AB, number * (RUN_SIZES + 1), [number] * (RUN_SIZES + 1), 0)
        total += number * (RUN_SIZES + 1)
    [span] = spans(one)
    check(span)
    assert span.bytes == total
    assert len(set(span.each_size())) <= 2


def test_large_slices_are_several_facts() -> None:
    one = made()
    for number in range(2 * FACT_SPANS + 1):
        one.count(Direction("demo", number, "a", "b"), 0, [1], 0)
    assert [len(fact.spans) for fact in facts(one)] == [FACT_SPANS, FACT_SPANS, 1]
    for number in range(FACT_SPANS):
        one.count(Direction("demo", number, "ç" * 64, "b" * 64), 0, list(range(1000)), 0)
    assert all(len(encode(fact)) < 1.5 * FACT_BYTES for fact in facts(one))


def test_beyond_a_limit_slices_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "SPANS", 5)
    one = made()
    for number in range(10):
        for direction in (AB, BA):
            one.count(direction, number, [number], number * SLICE)
    one.count(AB, 100, [7], 9 * SLICE)
    found = facts(one)
    assert sum(len(fact.spans) for fact in found) <= 5
    assert [fact.at // SLICE for fact in found] == [8, 9]
    assert [s.sizes for s in found[0].spans if s.sender == "a"] == ["0,1,2,3,4,5,6,7,8"]


def test_more_directions_than_the_limit_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "SPANS", 4)
    one = made()
    for number in range(50):
        one.count(Direction(f"app-{number}", 1, "a", "b"), 0, [1], 0)
    assert len(spans(one)) == 50


def test_beyond_a_limit_no_sizes_are_kept_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "KEPT_SIZES", 1000)
    one = made()
    for number in range(400):
        one.count(AB, 5 * number, [1, 2, 3, 4, 5], number // 100 * SLICE)
    one.count(BA, 0, [9], 3 * SLICE)
    assert sum(len(run.sizes) for page in one._counts._slices.values() for run in page.runs()) <= 1001
    found = spans(one)
    for span in found:
        check(span)
    assert sum(span.bytes for span in found) == 400 * 15 + 9


def test_sizes_that_were_folded_already_do_not_count_against_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book, "KEPT_SIZES", 2 * RUN_SIZES)
    one = made()
    for number in range(2 * RUN_SIZES + 1):
        one.count(AB, number, [number % 7], 0)
    [span] = spans(one)
    check(span)
    assert list(span.each_size())[2 * RUN_SIZES :] == [2 * RUN_SIZES % 7]


def test_runs_whose_sizes_were_folded_are_merged_with_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "SPANS", 2)
    one = made()
    one.count(AB, 0, [1, 2], 0)
    one.count(AB, 2, [3], SLICE)
    one.count(AB, 3, [3] * RUN_SIZES, SLICE)
    one.count(AB, 3 + RUN_SIZES, [4], 2 * SLICE)
    [merged, latest] = spans(one)
    assert (merged.sizes, latest.sizes) == (f"1*1,2*1,3*{RUN_SIZES + 1}", "4")


def test_what_is_late_is_claimed_with_all_that_was_delivered_before() -> None:
    one = made()
    one.count(AB, 3, [4, 5], 1000)
    one.be_late()
    one.be_late()
    one.count(AB, 5, [6], 1001)
    one.be_late()
    one.count(BA, 0, [7], 1002, late=True)
    assert not one.counting
    assert one.payloads == 4
    [(payloads, found)] = claims(one)
    assert payloads == 4
    assert sorted(found, key=lambda each: each.sender) == [
        Claim("a", "b", 7, 6, made_span("a", "b", 7, 3, [4, 5, 6])),
        Claim("b", "a", 7, 1, made_span("b", "a", 7, 0, [7])),
    ]
    assert one.payloads == 0


def test_what_is_counted_anew_is_published_before_what_is_late() -> None:
    one = made()
    one.count(AB, 0, [1], 0)
    one.be_late()
    one.count(AB, 1, [2], 0)
    assert one.counting
    taken = one.take()
    assert taken is not None
    assert isinstance(taken.fact, DeliveriesCounted)
    assert [payloads for payloads, _ in claims(one)] == [1]


def test_what_was_delivered_to_this_edge_is_claimed_with_or_without_sizes() -> None:
    one = made()
    one.claim(BA, 3, [4], 1000)
    one.claim(BA, 9, [], 1500)
    one.claim(Direction("other", 8, "c", "d"), 2, [], 1000)
    assert one.payloads == 0
    found = claims(one)
    assert [payloads for payloads, _ in found] == [0, 0, 0]
    assert [claim for _, each in found for claim in each] == [
        Claim("b", "a", 7, 4, made_span("b", "a", 7, 3, [4])),
        Claim("b", "a", 7, 9),
        Claim("c", "d", 8, 2),
    ]


def test_many_ends_are_several_facts() -> None:
    one = made()
    for number in range(FACT_SPANS + 1):
        one.claim(Direction("demo", number, "a", "b"), 5, [], number)
    assert [len(found) for _, found in claims(one)] == [FACT_SPANS, 1]


def test_a_fact_is_claimed_instead_under_the_same_name() -> None:
    one = made()
    one.count(AB, 0, [1, 2], 1000)
    [fact] = facts(one)
    claimed = claimed_instead(fact)
    assert (claimed.app, claimed.at, claimed.source, claimed.incarnation, claimed.number) == (
        "demo",
        1000,
        "edge-0",
        5,
        1,
    )
    assert claimed.claims == [Claim("a", "b", 7, 2, fact.spans[0])]


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 60))
def test_every_payload_is_taken_once_with_its_share_of_an_exact_sum(seed: int, steps: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # a test
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("SPANS", 5), ("RUN_SIZES", 10), ("RUN_GROUPS", 3), ("KEPT_SIZES", 40)):
            patch.setattr(book, name, value)
        one = made()
        next_number: Counter[Direction] = Counter()
        added: Counter[Direction] = Counter()
        covered: dict[Direction, set[int]] = {}
        taken: Counter[Direction] = Counter()
        holes: Counter[Direction] = Counter()
        numbers = []

        def read(fact: DeliveriesCounted | DeliveriesClaimed) -> None:
            numbers.append(fact.number)
            assert msgspec.json.decode(encode(fact), type=type(fact)) == fact
            spans = (
                fact.spans if isinstance(fact, DeliveriesCounted) else [c.span for c in fact.claims if c.span]
            )
            for span in spans:
                check(span)
                direction = Direction(fact.app, span.match, span.sender, span.receiver)
                payloads = set(range(span.first, span.end))
                assert not covered.setdefault(direction, set()) & payloads
                covered[direction] |= payloads
                taken[direction] += span.bytes

        for step in range(steps):
            direction = Direction(chance.choice(["x", "y"]), chance.randrange(3), "a", "b")
            if chance.random() < 0.1:
                holes[direction] += 1
                next_number[direction] += 1
            sizes = [chance.choice([5, 5, 5, 8])] * chance.randint(1, 8)
            sizes[-1] += chance.randrange(2)
            added[direction] += sum(sizes)
            one.count(direction, next_number[direction], sizes[:], step * chance.choice([0, SLICE // 3]))
            next_number[direction] += len(sizes)
            if chance.random() < 0.1:
                one.be_late()
            if chance.random() < 0.05 and (some := one.take()) is not None:
                read(some.fact)
        while (rest := one.take()) is not None:
            read(rest.fact)
    assert taken == added
    assert numbers == list(range(1, len(numbers) + 1))
    for direction, payloads in covered.items():
        assert len(payloads) == next_number[direction] - holes[direction]
