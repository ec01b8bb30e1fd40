"""Sizes of a span as runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Span, decode_sizes, span
from cloudmatch_journal.core import sizes

some = st.lists(st.integers(0, 3), min_size=1, max_size=20)


@given(some, st.integers(0, 25))
def test_the_first_sizes_of_a_span_are_known(each: list[int], most: int) -> None:
    assert sizes.known_sizes(span("a", "b", 7, 5, each), most) == each[:most]


@given(some, st.data())
def test_a_part_of_a_span_has_the_sizes_of_its_payloads(each: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(each) - 1))
    end = data.draw(st.integers(first + 1, len(each)))
    part = sizes.part(span("a", "b", 7, 5, each), 5 + first, 5 + end)
    assert (part.first, part.end, part.bytes) == (5 + first, 5 + end, sum(each[first:end]))
    assert list(decode_sizes(part.sizes)) == each[first:end]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "4", "4,5,6", "4,6", "4*2,5", "4*x", "x*2", "-1,10", "4,5,6*0,-6,6", "9*-1,9*2"]
)
def test_sizes_that_do_not_add_up_are_evened_out(text: str) -> None:
    malformed = Span("a", "b", 7, 0, 2, 9, text)
    assert sizes.known_sizes(malformed, 10) == [4, 5]
    assert sizes.part(malformed, 1, 2) == Span("a", "b", 7, 1, 1, 5, "5")


def test_a_long_run_stays_one() -> None:
    endless = Span("a", "b", 7, 0, 10**9, 10**9, "1*1000000000")
    assert sizes.part(endless, 5, 10**9).sizes == "1*999999995"
    assert sizes.runs(endless) == [(1, 10**9)]
