"""A clock that no step of the wall clock moves. `wall - monotonic` is 0 at the start, times are in ms."""

import pytest

from cloudmatch_analytics.core.steady_clock import BELIEVED, NEAR, SLEW, MessageTimes, SteadyClock

SECOND, MINUTE, DAY = 1000, 60_000, 86_400_000
NOW = 100 * DAY  # by the monotonic clock
STEPS = [s * unit for unit in (2 * SECOND, 10 * MINUTE, 2 * DAY) for s in (1, -1)]


def run(clock: SteadyClock, since: int, until: int, wall: int, message: int | None = None) -> list[int]:
    """Compare four times a second; return when steps were believed.

    Args:
        wall: by how much the wall clock is ahead.
        message: by how much the times of messages are ahead, None without messages.
    """
    return [
        now
        for now in range(since, until, 250)
        if clock.follow(now + wall, now, None if message is None else now + message)
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("message", [None, -300, 0])
def test_no_step_moves_it_however_long_the_wall_clock_is_wrong(step: int, message: int | None) -> None:
    clock = SteadyClock(0)
    assert run(clock, NOW, NOW + 10 * MINUTE, step, message) == []
    assert (clock.offset, clock.step) == (0, step)
    assert run(clock, NOW + 10 * MINUTE, NOW + 20 * MINUTE, 0, message) == []
    assert (clock.offset, clock.step) == (0, 0)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_believed_once_messages_have_agreed_with_it_for_a_minute(step: int) -> None:
    clock = SteadyClock(0)
    assert run(clock, NOW, NOW + BELIEVED, step, step - 100) == []
    assert run(clock, NOW + BELIEVED, NOW + MINUTE + BELIEVED, step, step - 100) == [NOW + BELIEVED]
    assert (clock.offset, clock.step) == (step, 0)


def test_one_message_that_agrees_with_the_old_time_lets_the_minute_begin_again() -> None:
    clock = SteadyClock(0)
    run(clock, NOW, NOW + BELIEVED - 500, 2 * DAY, 2 * DAY)
    run(clock, NOW + BELIEVED - 500, NOW + BELIEVED - 250, 2 * DAY, -200)
    again = NOW + BELIEVED - 250
    assert run(clock, again, again + 2 * BELIEVED, 2 * DAY, 2 * DAY) == [again + BELIEVED]


def test_old_messages_say_nothing_about_either_time() -> None:
    clock = SteadyClock(0)
    run(clock, NOW, NOW + 1000, -10 * MINUTE, -10 * MINUTE)
    run(clock, NOW + 1000, NOW + BELIEVED, -10 * MINUTE, -5 * 60 * MINUTE)
    assert run(clock, NOW + BELIEVED, NOW + BELIEVED + 250, -10 * MINUTE) == [NOW + BELIEVED]


def test_another_step_begins_a_minute_of_its_own() -> None:
    clock = SteadyClock(0)
    run(clock, NOW, NOW + BELIEVED - 500, 2 * DAY, 2 * DAY)
    changed = NOW + BELIEVED - 500
    assert run(clock, changed, changed + MINUTE, DAY, DAY) == []
    assert run(clock, changed + MINUTE, changed + 2 * MINUTE, DAY, DAY) == [changed + BELIEVED]


@pytest.mark.parametrize("ahead", [NEAR, -NEAR])
def test_a_wall_clock_that_is_near_is_approached_slowly(ahead: int) -> None:
    clock = SteadyClock(0)
    run(clock, NOW, NOW + 251, ahead)
    assert clock.offset == (250 // SLEW if ahead > 0 else -(250 // SLEW))
    run(clock, NOW + 500, NOW + MINUTE, ahead)
    assert (clock.offset, clock.step) == (ahead, 0)


def test_a_wall_clock_that_runs_fast_is_not_followed_for_long() -> None:
    clock = SteadyClock(0)
    for passed in range(0, 10 * MINUTE, 250):
        clock.follow(NOW + 2 * passed, NOW + passed)
    assert clock.offset <= NEAR // 10
    assert clock.step > 9 * MINUTE


def test_times_of_messages_are_counted_while_they_are_ahead() -> None:
    times = MessageTimes()
    assert times.newest is None
    times.add(NOW + DAY, 3, NOW)
    times.add(NOW + 2 * DAY, 4, NOW)
    assert (times.ahead, times.furthest, times.newest) == (7, 2 * DAY, NOW + 2 * DAY)


def test_the_newest_time_is_one_that_is_not_ahead_if_there_is_one() -> None:
    times = MessageTimes()
    for at in (NOW - DAY, NOW + NEAR, NOW - 5, NOW + DAY):
        times.add(at, 1, NOW)
    assert (times.ahead, times.newest) == (1, NOW + NEAR)
