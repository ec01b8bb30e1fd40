"""Sets of the numbers of payloads."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_journal.core import coverage

MOST = 30
ranges = st.tuples(st.integers(0, MOST), st.integers(1, 8)).map(lambda each: (each[0], sum(each)))


def made(of: list[coverage.Range]) -> tuple[coverage.Numbers, set[int]]:
    numbers: coverage.Numbers = []
    for first, end in of:
        coverage.add(numbers, first, end)
    return numbers, {number for each in of for number in range(*each)}


@given(st.lists(ranges))
def test_a_set_has_as_few_ranges_as_possible(some: list[coverage.Range]) -> None:
    numbers, expected = made(some)
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert {number for each in pairs for number in range(*each)} == expected
    assert numbers == sorted(set(numbers))  # none is empty or adjacent to another


@given(st.lists(ranges), ranges)
def test_what_is_missing_of_a_range_is_found_in_order(
    some: list[coverage.Range], asked: coverage.Range
) -> None:
    numbers, expected = made(some)
    found = coverage.missing(numbers, *asked)
    assert [number for each in found for number in range(*each)] == sorted(set(range(*asked)) - expected)
    assert all(first < end for first, end in found)


@given(st.lists(ranges), st.integers(0, MOST))
def test_missing_numbers_are_counted_from_0(some: list[coverage.Range], end: int) -> None:
    numbers, expected = made(some)
    assert coverage.count_missing(numbers, end) == len(set(range(end)) - expected)
