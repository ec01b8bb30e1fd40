"""Which segments are dropped."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_journal.core.retention import DAY, Retention
from cloudmatch_journal.core.segments import Seal


def seal(newest: int, size: int = 100) -> Seal:
    return Seal(first=1, last=2, count=2, size=size, crc32=0, newest=newest, devices=frozenset())


NOW = 10 * DAY
WEEK = [seal(day * DAY) for day in (3, 4, 5, 6, 7, 8, 9)]


def test_without_a_limit_nothing_is_dropped() -> None:
    assert Retention().expired(WEEK, 10**12, NOW * 1000) == 0


def test_a_segment_is_dropped_when_its_newest_event_is_too_old() -> None:
    assert Retention(days=5).expired(WEEK, 700, NOW) == 2
    assert Retention(days=5.5).expired(WEEK, 700, NOW) == 2
    assert Retention(days=0.5).expired(WEEK, 700, NOW) == 7
    assert Retention(days=30).expired(WEEK, 700, NOW) == 0


def test_the_oldest_are_dropped_until_the_rest_is_small_enough() -> None:
    assert Retention(size=700).expired(WEEK, 700, NOW) == 0
    assert Retention(size=699).expired(WEEK, 700, NOW) == 1
    assert Retention(size=450).expired(WEEK, 750, NOW) == 3  # 50 of them in the growing segment
    assert Retention(size=1).expired(WEEK, 750, NOW) == 7


def test_either_limit_is_enough() -> None:
    assert Retention(days=5, size=450).expired(WEEK, 750, NOW) == 3
    assert Retention(days=2.5, size=700).expired(WEEK, 750, NOW) == 5


def test_no_segment_is_dropped_before_an_older_one() -> None:
    assert Retention(days=5).expired([seal(9 * DAY), seal(1 * DAY)], 200, NOW) == 0


@given(st.lists(st.integers(1, 1000), max_size=20), st.integers(0, 1000), st.integers(1, 20_000))
def test_no_more_is_dropped_than_necessary(sizes: list[int], growing: int, limit: int) -> None:
    seals = [seal(0, size) for size in sizes]
    total = sum(sizes) + growing
    count = Retention(size=limit).expired(seals, total, NOW)
    assert count == len(seals) or total - sum(sizes[:count]) <= limit
    assert count == 0 or total - sum(sizes[: count - 1]) > limit
