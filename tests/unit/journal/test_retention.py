"""Which segments are dropped."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_journal.core.retention import DAY, SHARE, Ageing, Retention
from cloudmatch_journal.core.segments import Seal


def seal(newest: int, size: int = 100, last: int = 2) -> Seal:
    return Seal(first=1, last=last, count=2, size=size, crc32=0, newest=newest, devices=frozenset())


NOW = 10 * DAY
WEEK = [seal(day * DAY, last=day) for day in (3, 4, 5, 6, 7, 8, 9)]


def test_without_a_limit_nothing_is_dropped() -> None:
    assert Retention().too_old(WEEK, NOW * 1000) == 0
    assert Retention().too_much(WEEK, 10**12) == 0


def test_a_segment_is_too_old_when_its_newest_event_is() -> None:
    assert Retention(days=5).too_old(WEEK, NOW) == 2
    assert Retention(days=5.5).too_old(WEEK, NOW) == 2
    assert Retention(days=0.5).too_old(WEEK, NOW) == 7
    assert Retention(days=30).too_old(WEEK, NOW) == 0


def test_no_segment_is_too_old_before_an_older_one() -> None:
    assert Retention(days=5).too_old([seal(9 * DAY), seal(1 * DAY)], NOW) == 0


def test_a_segment_from_the_future_expires_with_the_next_one() -> None:
    for ahead in (2 * DAY, 3650 * DAY):
        jumped = [seal(3 * DAY), seal(NOW + ahead), seal(4 * DAY), seal(9 * DAY), seal(NOW + ahead)]
        assert Retention(days=5).too_old(jumped, NOW) == 3
        assert Retention(days=0.5).too_old(jumped, NOW) == 4


def test_the_oldest_are_dropped_until_the_rest_is_small_enough() -> None:
    assert Retention(size=700).too_much(WEEK, 700) == 0
    assert Retention(size=699).too_much(WEEK, 700) == 1
    assert Retention(size=450).too_much(WEEK, 750) == 3  # 50 of them in the growing segment
    assert Retention(size=1).too_much(WEEK, 750) == 7


@given(st.lists(st.integers(1, 1000), max_size=20), st.integers(0, 1000), st.integers(1, 20_000))
def test_no_more_is_dropped_than_necessary(sizes: list[int], growing: int, limit: int) -> None:
    seals = [seal(0, size) for size in sizes]
    total = sum(sizes) + growing
    count = Retention(size=limit).too_much(seals, total)
    assert count == len(seals) or total - sum(sizes[:count]) <= limit
    assert count == 0 or total - sum(sizes[: count - 1]) > limit


def test_what_is_too_old_is_dropped_at_the_second_look() -> None:
    ageing = Ageing(Retention(days=6.5))
    assert ageing.look(WEEK, NOW) == (0, 1)
    assert ageing.look(WEEK, NOW) == (1, 1)
    assert ageing.look(WEEK[1:], NOW) == (0, 0)
    assert ageing.look([], NOW) == (0, 0)


def test_a_clock_that_jumps_for_some_seconds_drops_nothing() -> None:
    ageing = Ageing(Retention(days=30))
    for _ in range(3):
        assert ageing.look(WEEK, NOW) == (0, 0)
        assert ageing.look(WEEK, NOW + 3650 * DAY) == (0, 7)


def test_of_a_clock_that_stays_wrong_each_look_drops_a_share() -> None:
    ageing, many = Ageing(Retention(days=30)), [seal(9 * DAY, last=n) for n in range(1, 10 * SHARE + 1)]
    wrong = NOW + 3650 * DAY
    assert [ageing.look(many, wrong) for _ in range(2)] == [(0, 10 * SHARE), (10, 10 * SHARE)]
    assert ageing.look(many[10:], wrong) == (8, 70)
    assert ageing.look(many, NOW) == (0, 0)
