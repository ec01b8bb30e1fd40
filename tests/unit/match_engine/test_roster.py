"""The mirror agrees with a plain dictionary of the newest records after any sequence of changes."""

from collections import Counter
from dataclasses import asdict
from itertools import combinations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import DeviceId, device_id
from cloudmatch_match_engine.core.roster import Roster, Route, Since

NAMES = ("a", "b", "c.d", "é")
names = st.sampled_from(NAMES)


def record(name: str, match: int | None = None, peer: str | None = None, edge: str = "e1") -> DeviceRecord:
    return DeviceRecord(
        app="demo", device=name, edge=edge, connection_id=1, lat=0, lon=0, match=match, peer=peer
    )


def key(name: str) -> DeviceId:
    return device_id("demo", name)


PAIRS = tuple(combinations(NAMES, 2))


@st.composite
def records(draw: st.DrawFn) -> DeviceRecord:
    """Waiting, or in one of two matches that each pair may ever have: a number names one pair."""
    name, edge = draw(names), draw(st.sampled_from(["e1", "e 2"]))
    away = draw(st.sampled_from([None, None, 7]))
    new = replace(record(name, edge=edge), tag=draw(st.sampled_from([None, "red"])), disconnected_at=away)
    if draw(st.booleans()):
        number, pair = draw(st.sampled_from([(n, p) for n, p in enumerate(PAIRS * 2, 1) if name in p]))
        new = replace(new, match=number, peer=next(n for n in pair if n != name))
    return new


class Mirror(RuleBasedStateMachine):
    """`known`: name → (record, revision). A restarted watch shows everything that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.known: dict[str, tuple[DeviceRecord, int]] = {}
        self.unseen: set[str] | None = None
        self.revision = 0

    @property
    def present(self) -> list[tuple[str, tuple[DeviceRecord, int]]]:
        return [item for item in self.known.items() if item[1][0].disconnected_at is None]

    def seen(self, name: str) -> None:
        if self.unseen is not None:
            self.unseen.discard(name)

    @rule(new=records())
    def put(self, new: DeviceRecord) -> None:
        self.revision += 1
        self.roster.put(key(new.device), new, self.revision)
        self.known[new.device] = new, self.revision
        self.seen(new.device)

    @rule(name=names)
    def forget(self, name: str) -> None:
        self.revision += 1
        self.roster.put(key(name), None, self.revision)
        self.known.pop(name, None)
        self.seen(name)

    @rule()
    def advance(self) -> None:
        self.revision += 1
        self.roster.advance(self.revision)

    @rule()
    def restart(self) -> None:
        self.roster.restart()
        self.unseen = set(self.known)
        assert self.roster.reached == 0
        self.roster.advance(self.revision)

    @precondition(lambda self: self.unseen is not None)
    @rule()
    def complete(self) -> None:
        self.roster.complete()
        for name in self.unseen or ():
            del self.known[name]
        self.unseen = None

    @invariant()
    def each_device_has_its_newest_record(self) -> None:
        assert self.roster.reached == self.revision
        assert len(self.roster) == len(self.known)
        for name in NAMES:
            assert self.roster.get(key(name)) == self.known.get(name)

    @invariant()
    def connected_devices_without_a_match_wait(self) -> None:
        for tag in (None, "red"):
            waiting = {k.record.device for k in self.roster.waiting("demo", tag)}
            assert waiting == {n for n, (r, _) in self.present if r.match is None and r.tag == tag}
        assert self.roster.count_waiting() == sum(r.match is None for _, (r, _) in self.present)

    @invariant()
    def each_device_is_disconnected_or_held_by_an_edge_process(self) -> None:
        disconnected = {k.record.device for k in self.roster.disconnected()}
        assert disconnected == {n for n, (r, _) in self.known.items() if r.disconnected_at is not None}
        held = {
            mirrored.record.device: process
            for process in self.roster.edge_processes()
            for mirrored in self.roster.connected_to(process)
        }
        assert held == {n: (r.edge, r.incarnation) for n, (r, _) in self.present}
        assert all(self.roster.connected_to(process) for process in self.roster.edge_processes())

    @invariant()
    def the_devices_of_each_edge_process_are_counted_by_state(self) -> None:
        expected: dict[tuple[str, int], Counter[str]] = {}
        for record, _ in self.known.values():
            state = "matched" if record.match is not None else "waiting"
            state = "away" if record.disconnected_at is not None else state
            expected.setdefault((record.edge, record.incarnation), Counter())[state] += 1
        found = {process: Counter(asdict(counts)) for process, counts in self.roster.counts().items()}
        assert found == expected
        for process, counts in self.roster.counts().items():
            assert counts.connected == len(list(self.roster.connected_to(process)))

    @invariant()
    def a_route_leads_to_the_edge_of_the_peer_if_both_records_agree(self) -> None:
        for name in NAMES:
            assert self.roster.route(key(name)) == self.expected(name)

    def expected(self, name: str) -> Route | None:
        mine, _ = self.known.get(name, (None, 0))
        if mine is None or mine.match is None or mine.peer is None:
            return None
        theirs, _ = self.known.get(mine.peer, (None, 0))
        if theirs is None or theirs.match != mine.match:
            return None
        prefix = subjects.ack_prefix("demo", mine.edge, name, mine.match)
        return Route(prefix, subjects.dn("demo", theirs.edge, theirs.device), subjects.token(mine.edge))


Mirror.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMirror = Mirror.TestCase


def matched(roster: Roster, match: int, edge: str = "e1") -> None:
    roster.put(key("a"), record("a", match, "b"), 10 * match)
    roster.put(key("b"), record("b", match, "a", edge), 10 * match + 1)


def test_batches_follow_the_peer_to_another_edge_and_into_another_match() -> None:
    roster = Roster()
    matched(roster, 1)
    for _ in range(2):  # looked up, then remembered
        assert roster.route(key("a")) == Route("cm.v1.demo.ack.e1.a.1.", "cm.v1.demo.dn.e1.b", "e1")
    matched(roster, 1, "e2")
    assert roster.route(key("a")) == Route("cm.v1.demo.ack.e1.a.1.", "cm.v1.demo.dn.e2.b", "e1")
    matched(roster, 2, "e3")
    assert roster.route(key("a")) == Route("cm.v1.demo.ack.e1.a.2.", "cm.v1.demo.dn.e3.b", "e1")


def test_there_is_no_route_while_only_one_device_is_known_to_be_in_the_match() -> None:
    roster = Roster()
    matched(roster, 1)
    roster.route(key("a"))
    roster.put(key("b"), record("b", 2, "c"), 30)
    assert roster.route(key("a")) is None
    roster.put(key("b"), None, 31)
    assert roster.route(key("a")) is None


def test_routes_remain_while_the_watch_restarts() -> None:
    roster = Roster()
    matched(roster, 1)
    roster.restart()
    assert roster.route(key("a")) == Route("cm.v1.demo.ack.e1.a.1.", "cm.v1.demo.dn.e1.b", "e1")
    roster.put(key("a"), record("a", 1, "b"), 10)
    roster.complete()
    assert roster.route(key("a")) is None, "b was not shown again"


def test_all_devices_are_found_whatever_their_state_and_app() -> None:
    roster = Roster()
    matched(roster, 1)
    roster.put(key("c.d"), replace(record("c.d"), disconnected_at=7), 30)
    roster.put(device_id("other", "a"), replace(record("a"), app="other"), 31)
    found = roster.everyone()
    assert [mirrored.record.device for mirrored in found] == ["a", "b", "c.d", "a"]
    roster.put(device_id("other", "a"), None, 32)
    assert len(found) == 4, "as it was when asked"


def test_it_is_known_since_when_a_connection_is_shown_and_since_when_it_is_open_or_over() -> None:
    roster, a = Roster(), key("a")
    away = replace(record("a"), disconnected_at=7)  # ms, of any clock
    shown = [
        (record("a"), 10.0, Since(10.0, 10.0)),
        (replace(record("a"), match=3, peer="b"), 20.0, Since(10.0, 10.0)),
        (away, 30.0, Since(10.0, 30.0)),
        (replace(away, last_peer="b"), 40.0, Since(10.0, 30.0)),
        (record("a"), 50.0, Since(10.0, 50.0)),
        (replace(away, disconnected_at=1), 60.0, Since(10.0, 60.0)),
        (replace(away, connection_id=2), 70.0, Since(70.0, 70.0)),
        (replace(away, connection_id=2, edge="e2"), 80.0, Since(80.0, 80.0)),
    ]
    for revision, (new, now, since) in enumerate(shown, 1):
        roster.put(a, new, revision, now)
        assert roster.since(a) == since
    roster.put(a, None, 20, 90.0)
    roster.put(a, away, 21, 100.0)
    assert roster.since(a) == Since(100.0, 100.0)


def test_only_a_device_without_a_connection_is_absent_and_since_then() -> None:
    roster, connected = Roster(), record("a")
    roster.put(key("a"), connected, 1, 100.0)
    assert roster.absent_for(connected, 107.0) == 0
    away = replace(connected, disconnected_at=5)
    roster.put(key("a"), away, 2, 110.0)
    assert roster.absent_for(away, 112.5) == 2.5
    roster.put(key("a"), None, 3, 113.0)
    assert roster.absent_for(away, 120.0) == 0, "it has gone meanwhile"
