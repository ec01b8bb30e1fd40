"""Whether connections that break off point to the idle time-out of a proxy."""

from collections.abc import Iterable

import pytest

from cloudmatch_edge.sockets.idle_timeouts import IdleTimeouts


def after(ends: Iterable[tuple[float, float]]) -> IdleTimeouts:
    """Connections that broke off: when, after which silence."""
    found = IdleTimeouts()
    for now, silence in ends:
        found.add(now, silence)
    return found


@pytest.mark.parametrize("timeout", [0.7, 5.0, 15.0, 60.0])
def test_the_same_silence_again_and_again_is_a_time_out(timeout: float) -> None:
    ends = [(timeout * number, timeout + 0.04 * (number % 3)) for number in range(1, 6)]
    assert after(ends[:4]).suspected(100) == 0
    assert after(ends).suspected(timeout * 6) == pytest.approx(timeout + 0.04)


def test_other_connections_in_between_hide_nothing() -> None:
    ends = [(number, 5.0 if number % 2 else 0.3 * number) for number in range(1, 11)]
    assert after(ends).suspected(12) == 5.0


def test_connections_that_break_off_at_any_moment_show_nothing() -> None:
    assert after((number, 0.4 * number) for number in range(20)).suspected(20) == 0


def test_connections_that_break_off_at_one_moment_show_nothing() -> None:
    assert after((100 + number / 1000, 4.0) for number in range(10)).suspected(101) == 0


def test_connections_that_break_off_while_they_are_used_show_nothing() -> None:
    assert after((number, 0.01) for number in range(10)).suspected(10) == 0


def test_what_was_long_ago_is_forgotten() -> None:
    found = after((5.0 * number, 5.0) for number in range(10))
    assert found.suspected(50) == 5.0
    assert found.suspected(650) == 0
