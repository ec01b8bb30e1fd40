"""How the Python client finds out that a connection is dead."""

from cloudmatch.core.liveness import SILENCE, Liveness


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
