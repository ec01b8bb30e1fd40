"""An id is taken over at once a few times, then at growing intervals, until it has been left alone."""

from cloudmatch_edge.relay.takeovers import FREE, PAUSE, QUIET, Takeovers


def war(takeovers: Takeovers, seconds: float) -> int:
    """Two clients reconnect as soon as they may; return how often they take over."""
    now, count = 0.0, 0
    while now < seconds:
        takeovers.note("a", now)
        count += 1
        now += takeovers.pause("a", now)
    return count


def test_a_device_that_reconnects_quickly_takes_over_at_once() -> None:
    takeovers = Takeovers()
    for _ in range(FREE):
        assert takeovers.pause("a", 0.0) == 0.0
        takeovers.note("a", 0.0)
    assert takeovers.pause("a", 0.0) == PAUSE[0]
    assert takeovers.pause("a", PAUSE[0]) == 0.0
    assert takeovers.pause("b", 0.0) == 0.0


def test_two_clients_with_one_id_take_over_ever_more_slowly() -> None:
    assert war(Takeovers(), 10.0) < 10
    assert war(Takeovers(), 1000.0) < 10 + 1000.0 / PAUSE[1]


def test_the_longest_pause_stays_the_same_however_often_an_id_is_taken_over() -> None:
    takeovers = Takeovers()
    for _ in range(2000):
        takeovers.note("a", 0.0)
    assert takeovers.pause("a", 0.0) == PAUSE[1]


def test_an_id_that_was_left_alone_starts_again_and_is_forgotten() -> None:
    takeovers = Takeovers()
    for _ in range(10):
        takeovers.note("a", 0.0)
    takeovers.note("b", QUIET - 1.0)
    assert len(takeovers) == 2
    assert takeovers.pause("a", QUIET) == 0.0
    takeovers.note("c", QUIET)
    assert len(takeovers) == 2
    takeovers.note("a", QUIET)
    assert takeovers.pause("a", QUIET) == 0.0
