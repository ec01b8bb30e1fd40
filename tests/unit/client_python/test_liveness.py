"""How the Python client finds out that a connection is dead."""

import pytest

from cloudmatch.core.liveness import PATIENCE, SILENCE, SILENCE_MIN, Liveness


def silent_since(now: float) -> Liveness:
    """A connection whose last frame arrived at `now`."""
    liveness = Liveness()
    liveness.connect()
    liveness.on_frame(now)
    return liveness


def test_a_silence_calls_for_one_ping() -> None:
    liveness = silent_since(100)
    assert liveness.deadline == 100 + SILENCE
    assert not liveness.check(99 + SILENCE)
    assert liveness.check(100 + SILENCE)
    assert not liveness.check(101 + SILENCE)
    assert liveness.deadline == 100 + 2 * SILENCE


def test_a_second_silence_means_that_the_connection_is_dead() -> None:
    liveness = silent_since(100)
    liveness.check(100 + SILENCE)
    assert not liveness.dead
    assert not liveness.check(100 + 2 * SILENCE)
    assert (liveness.dead, liveness.deadline) == (True, None)


def test_after_a_suspend_a_ping_comes_before_the_connection_counts_as_dead() -> None:
    liveness = silent_since(100)
    assert liveness.check(100 + 10 * SILENCE)
    assert not liveness.dead


def test_any_frame_answers_the_ping() -> None:
    liveness = silent_since(100)
    liveness.check(100 + SILENCE)
    liveness.on_frame(120)
    assert liveness.deadline == 120 + SILENCE
    liveness.check(100 + 2 * SILENCE)
    assert not liveness.dead


def test_a_new_connection_starts_alive_and_without_a_ping() -> None:
    liveness = silent_since(100)
    liveness.check(100 + SILENCE)
    liveness.check(100 + 2 * SILENCE)
    liveness.disconnect()
    liveness.connect()
    assert (liveness.dead, liveness.deadline) == (False, 100 + SILENCE)
    assert liveness.check(100 + 2 * SILENCE)


@pytest.mark.parametrize(
    ("grace", "heartbeat", "silence"),
    [
        (30, 20, 5),
        (30, None, 5),
        (30, 2.5, 2.5),
        (3600, None, SILENCE),
        (0, 20, SILENCE),
        (1, 0.1, SILENCE_MIN),
    ],
)
def test_a_silence_is_a_sixth_of_the_grace_or_a_heartbeat(
    grace: float, heartbeat: float | None, silence: float
) -> None:
    liveness = silent_since(100)
    liveness.welcome(100, grace, heartbeat)
    assert liveness.deadline == 100 + silence


def dies(liveness: Liveness, welcomed: float, silent: float) -> float:
    """Let a connection die that is silent after `silent`; return how long its first silence may last."""
    liveness.disconnect()
    liveness.connect()
    liveness.welcome(welcomed, 30, 20)
    liveness.on_frame(silent)
    assert liveness.deadline is not None
    silence = liveness.deadline - silent
    assert liveness.check(silent + silence)
    liveness.check(silent + 2 * silence)
    assert liveness.dead
    return silence


def test_after_a_connection_that_was_dead_at_once_more_patience_is_had_with_the_next() -> None:
    liveness = Liveness()
    assert [dies(liveness, 100, 160), dies(liveness, 200, 201), dies(liveness, 300, 360)] == [5, 5, 15]
    assert dies(liveness, 400, 401) == 5
    assert dies(liveness, 500, 501) == 5 * PATIENCE
