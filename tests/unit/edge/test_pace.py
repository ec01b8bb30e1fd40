"""How much of one device is read: exactly its rate over time, and nothing is lost."""

import pytest

from cloudmatch_edge.sockets.pace import UNLIMITED, Pace


def read(pace: Pace, now: float, size: int, waiting: int = 10**6) -> int:
    """Read frames of this size while they may be read; return how many."""
    count = 0
    while count < waiting:
        frames, octets = pace.credit(now)
        if frames <= 0 or octets <= 0:
            break
        pace.use(1, size)
        count += 1
    return count


def test_a_second_of_frames_is_read_at_once_and_the_next_one_when_its_time_has_come() -> None:
    pace = Pace(10, 0)
    assert read(pace, 100.0, 1) == 10
    assert pace.wait() == pytest.approx(0.1)
    assert read(pace, 100.09, 1) == 0
    assert read(pace, 100.11, 1) == 1
    assert read(pace, 200.0, 1) == 10


def test_a_second_of_bytes_is_read_and_the_last_frame_may_exceed_it() -> None:
    pace = Pace(0, 1000)
    assert read(pace, 100.0, 999) == 2
    assert pace.wait() == pytest.approx(0.999)
    assert read(pace, 100.99, 999) == 0
    assert read(pace, 101.0, 999) == 1


def test_over_time_exactly_the_rate_is_read() -> None:
    pace = Pace(7, 0)
    assert sum(read(pace, 10 + step / 100, 1) for step in range(10_001)) == pytest.approx(7 * 101, abs=1)


def test_the_stricter_of_the_two_counts() -> None:
    pace = Pace(1000, 100)
    assert read(pace, 1.0, 10) == 10
    assert pace.wait() == pytest.approx(0.01)


def test_rates_below_one_let_a_frame_through_now_and_then() -> None:
    pace = Pace(0.5, 0)
    assert [read(pace, now, 1) for now in (100, 101, 102, 103, 104)] == [1, 0, 1, 0, 1]


def test_what_is_not_limited_is_unlimited() -> None:
    assert min(Pace(0, 0).credit(1.0)) == UNLIMITED
    assert Pace(0, 0).wait() == 0
