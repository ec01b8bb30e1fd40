"""Which edges live: those that beat or answer; a worker that was deaf declares nobody dead."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER, EDGE_PROBED_AFTER, STALLED_AFTER
from cloudmatch_match_engine.core.presence import AGAIN, Presence

LOOK = 0.25  # s between two looks
NAMED = ["e1"]


class Watched:
    """A presence that is looked at in time."""

    def __init__(self) -> None:
        self.presence = Presence(0.0)
        self.now = 0.0

    def wait(self, seconds: float, *, connected: bool = True) -> list[tuple[float, str]]:
        """Let time pass; give who was to be asked, and when."""
        asked = []
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += LOOK
            asked += [(self.now, edge) for edge in self.presence.look(NAMED, self.now, connected)]
        return asked

    def answer(self, incarnation: int = 1) -> None:
        self.presence.heard("e1", incarnation, self.now)
        self.presence.asked("e1")


def test_an_edge_that_beats_is_not_asked_and_lives() -> None:
    watched = Watched()
    for _ in range(40):
        watched.presence.heard("e1", 1, watched.now)
        assert not watched.wait(0.5)
    assert not watched.presence.dead("e1", 1)


def test_a_silent_edge_is_asked_once_at_a_time_and_again_after_a_while() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    assert [edge for _, edge in watched.wait(EDGE_PROBED_AFTER + LOOK)] == ["e1"]
    assert not watched.wait(AGAIN), "the question is still under way"
    watched.presence.asked("e1")
    assert [edge for _, edge in watched.wait(LOOK)] == ["e1"]
    watched.presence.asked("e1")
    assert not watched.wait(AGAIN - LOOK)


def test_an_edge_that_answers_lives_however_long_its_beats_are_lost() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    for _ in range(40):
        if watched.wait(LOOK):
            watched.answer()
    assert not watched.presence.dead("e1", 1)


def test_where_nobody_listens_the_edge_is_dead_at_once_and_alive_when_it_beats_again() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    assert watched.wait(EDGE_PROBED_AFTER + LOOK)
    assert not watched.presence.dead("e1", 1)
    watched.presence.refused("e1")
    watched.presence.asked("e1")
    assert watched.presence.dead("e1", 1)
    assert watched.presence.dead("e1", 0)
    watched.presence.heard("e1", 1, watched.now)
    assert not watched.presence.dead("e1", 1)


def test_a_refusal_older_than_a_sign_of_life_says_nothing() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    assert watched.wait(EDGE_PROBED_AFTER + LOOK)
    watched.wait(LOOK)
    watched.presence.heard("e1", 2, watched.now)
    watched.presence.refused("e1")
    assert not watched.presence.dead("e1", 2)


def test_a_frozen_edge_that_never_answers_is_dead_after_a_while() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    watched.wait(EDGE_DEAD_AFTER)
    assert not watched.presence.dead("e1", 1)
    watched.wait(LOOK)
    assert watched.presence.dead("e1", 1)


def test_an_edge_that_was_never_heard_counts_from_when_it_was_first_named() -> None:
    watched = Watched()
    asked = watched.wait(EDGE_PROBED_AFTER + 2 * LOOK)
    assert [edge for _, edge in asked] == ["e1"]
    watched.presence.refused("e1")
    assert watched.presence.dead("e1", 5)


def test_what_an_older_process_held_is_dead_as_soon_as_a_newer_one_is_heard() -> None:
    watched = Watched()
    watched.presence.heard("e1", 5, 0.0)
    watched.presence.heard("e1", 7, 0.1)
    assert watched.presence.dead("e1", 5)
    assert not watched.presence.dead("e1", 7)
    assert not watched.presence.dead("e1", 0), "by name alone"
    watched.presence.heard("e1", 5, 0.2)
    assert watched.presence.dead("e1", 5), "a late beat brings no process back"
    watched.presence.gone("e1", 5)
    assert not watched.presence.dead("e1", 7), "a late farewell of an older process takes no newer one along"


def test_an_edge_that_says_it_leaves_is_dead_at_once() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    watched.presence.gone("e1", 1)
    assert watched.presence.dead("e1", 1)
    watched.presence.heard("e1", 2, 0.1)
    assert not watched.presence.dead("e1", 2)


@given(st.floats(STALLED_AFTER + LOOK, 1e6))
def test_a_worker_that_was_frozen_begins_to_count_anew(seconds: float) -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    watched.now += seconds
    assert not watched.presence.look(NAMED, watched.now, connected=True)
    assert not watched.wait(EDGE_PROBED_AFTER - LOOK)
    assert not watched.presence.dead("e1", 1)


def test_a_worker_that_is_cut_off_declares_nobody_dead() -> None:
    watched = Watched()
    watched.presence.heard("e1", 1, 0.0)
    assert not watched.wait(20, connected=False)
    assert not watched.wait(EDGE_PROBED_AFTER)
    assert not watched.presence.dead("e1", 1)


def test_nothing_is_said_of_edges_that_nobody_named() -> None:
    assert not Presence(0.0).dead("stranger", 3)
