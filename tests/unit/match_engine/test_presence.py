"""Edges that send heartbeats or answer probes are alive; an isolated worker declares none dead."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER, EDGE_PROBED_AFTER, STALLED_AFTER
from cloudmatch_match_engine.core.presence import PROBE_INTERVAL, Presence

CHECK = 0.25  # s between two checks
EDGES = ["e1"]


class Watched:
    """A presence that is checked at intervals."""

    def __init__(self) -> None:
        self.presence = Presence(0.0)
        self.now = 0.0

    def wait(self, seconds: float, *, connected: bool = True) -> list[tuple[float, str]]:
        """Let time pass; return when each edge was to be probed."""
        probed = []
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += CHECK
            probed += [(self.now, edge) for edge in self.presence.check(EDGES, self.now, connected)]
        return probed

    def answer(self, incarnation: int = 1) -> None:
        self.presence.on_heartbeat("e1", incarnation, self.now)
        self.presence.on_probe_done("e1")


def test_an_edge_that_sends_heartbeats_is_alive_and_not_probed() -> None:
    watched = Watched()
    for _ in range(40):
        watched.presence.on_heartbeat("e1", 1, watched.now)
        assert not watched.wait(0.5)
    assert not watched.presence.is_dead("e1", 1)


def test_a_silent_edge_is_probed_once_at_a_time_and_again_after_an_interval() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    assert [edge for _, edge in watched.wait(EDGE_PROBED_AFTER + CHECK)] == ["e1"]
    assert not watched.wait(PROBE_INTERVAL), "the probe is still in progress"
    watched.presence.on_probe_done("e1")
    assert [edge for _, edge in watched.wait(CHECK)] == ["e1"]
    watched.presence.on_probe_done("e1")
    assert not watched.wait(PROBE_INTERVAL - CHECK)


def test_an_edge_that_answers_probes_is_alive_however_long_its_heartbeats_are_lost() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    for _ in range(40):
        if watched.wait(CHECK):
            watched.answer()
    assert not watched.presence.is_dead("e1", 1)


def test_an_edge_without_responders_is_dead_at_once_and_alive_with_its_next_heartbeat() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    assert watched.wait(EDGE_PROBED_AFTER + CHECK)
    assert not watched.presence.is_dead("e1", 1)
    watched.presence.on_no_responders("e1")
    watched.presence.on_probe_done("e1")
    assert watched.presence.is_dead("e1", 1)
    assert watched.presence.is_dead("e1", 0)
    watched.presence.on_heartbeat("e1", 1, watched.now)
    assert not watched.presence.is_dead("e1", 1)


def test_no_responders_to_a_probe_older_than_a_heartbeat_are_ignored() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    assert watched.wait(EDGE_PROBED_AFTER + CHECK)
    watched.wait(CHECK)
    watched.presence.on_heartbeat("e1", 2, watched.now)
    watched.presence.on_no_responders("e1")
    assert not watched.presence.is_dead("e1", 2)


def test_a_frozen_edge_that_never_answers_is_dead_after_a_timeout() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    watched.wait(EDGE_DEAD_AFTER)
    assert not watched.presence.is_dead("e1", 1)
    watched.wait(CHECK)
    assert watched.presence.is_dead("e1", 1)


def test_the_timers_of_an_edge_never_seen_start_when_a_record_first_names_it() -> None:
    watched = Watched()
    probed = watched.wait(EDGE_PROBED_AFTER + 2 * CHECK)
    assert [edge for _, edge in probed] == ["e1"]
    watched.presence.on_no_responders("e1")
    assert watched.presence.is_dead("e1", 5)


def test_earlier_incarnations_are_dead_as_soon_as_a_newer_one_is_seen() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 5, 0.0)
    watched.presence.on_heartbeat("e1", 7, 0.1)
    assert watched.presence.is_dead("e1", 5)
    assert not watched.presence.is_dead("e1", 7)
    assert not watched.presence.is_dead("e1", 0), "by name alone"
    watched.presence.on_heartbeat("e1", 5, 0.2)
    assert watched.presence.is_dead("e1", 5), "a late heartbeat revives no process"
    watched.presence.on_leave("e1", 5)
    assert not watched.presence.is_dead("e1", 7), (
        "a late leave of an earlier process does not end the newer one"
    )


def test_a_leaving_edge_is_dead_at_once_until_a_newer_process_is_seen() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    watched.presence.on_leave("e1", 1)
    assert watched.presence.is_dead("e1", 1)
    watched.presence.on_heartbeat("e1", 2, 0.1)
    assert not watched.presence.is_dead("e1", 2)


@given(st.floats(STALLED_AFTER + CHECK, 1e6))
def test_a_worker_that_was_frozen_restarts_all_timers(seconds: float) -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    watched.now += seconds
    assert not watched.presence.check(EDGES, watched.now, connected=True)
    assert not watched.wait(EDGE_PROBED_AFTER - CHECK)
    assert not watched.presence.is_dead("e1", 1)


def test_a_worker_that_is_cut_off_declares_no_edge_dead() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    assert not watched.wait(20, connected=False)
    assert not watched.wait(EDGE_PROBED_AFTER)
    assert not watched.presence.is_dead("e1", 1)


def test_an_unknown_edge_is_not_dead_even_when_it_leaves() -> None:
    presence = Presence(0.0)
    assert not presence.is_dead("unknown", 3)
    presence.on_leave("unknown", 3)
    assert not presence.is_dead("unknown", 3)


def test_a_dead_edge_is_not_probed() -> None:
    watched = Watched()
    watched.presence.on_heartbeat("e1", 1, 0.0)
    watched.presence.on_leave("e1", 1)
    assert not watched.wait(2 * EDGE_PROBED_AFTER)


def test_a_sighting_tells_whether_an_edge_is_alive_silent_or_dead() -> None:
    watched = Watched()
    assert watched.presence.sighting("e1") is None
    watched.presence.on_heartbeat("e1", 7, 0.0)
    assert watched.presence.sighting("e1") == (7, False, False)
    watched.wait(EDGE_PROBED_AFTER + CHECK)
    assert watched.presence.sighting("e1") == (7, True, False)
    watched.wait(CHECK)
    watched.answer(7)
    assert watched.presence.sighting("e1") == (7, False, False)
    watched.wait(EDGE_DEAD_AFTER + CHECK)
    assert watched.presence.sighting("e1") == (7, False, True)


def test_a_process_whose_clock_was_set_back_must_rise_above_the_one_that_is_dead() -> None:
    watched = Watched()
    assert watched.presence.on_heartbeat("e1", 9, 0.0) == 0
    assert watched.presence.on_heartbeat("e1", 5, 0.1) == 0, "two of one name: the later one is alive"
    watched.presence.on_leave("e1", 9)
    assert watched.presence.on_heartbeat("e1", 5, 0.2) == 9
    assert watched.presence.on_heartbeat("e1", 10, 0.3) == 0
    assert not watched.presence.is_dead("e1", 10)
    assert watched.presence.is_dead("e1", 9)
