"""All edges and workers with their states, what is wrong with them, and which edge holds a device."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER, EDGE_PROBED_AFTER
from cloudmatch_bus.contract.messages import DeviceRecord, Heartbeat
from cloudmatch_match_engine.core.cluster import (
    Cluster,
    ClusterStatus,
    DeviceStatus,
    EdgeStatus,
    Moment,
    WorkerStatus,
)
from cloudmatch_match_engine.core.heartbeat_log import KEPT_FOR, LEFT_KEPT_FOR, HeartbeatLog
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.membership import Membership
from cloudmatch_match_engine.core.presence import Presence
from cloudmatch_match_engine.core.roster import Roster

STARTED = 1_700_000_000_000  # ms since 1970 at which all processes of these tests start
INTERVAL = 0.5  # s

EDGE = Heartbeat(role="edge", name="e1", incarnation=STARTED * 1000, version="1.0", devices=3, load=0.25)
WORKER = Heartbeat(
    role="worker", name="w1", incarnation=STARTED * 1000, version="1.0", devices=7, partitions=128, load=0.5
)
ME = replace(WORKER, name="me")


def record(name: str, edge: str = "e1", **more: object) -> DeviceRecord:
    connected = DeviceRecord(
        app="demo",
        device=name,
        edge=edge,
        connection_id=STARTED * 1000 + 5_000_123,
        lat=0,
        lon=0,
        incarnation=EDGE.incarnation,
    )
    return replace(connected, **more)


class Watched:
    """The parts of a worker, fed as by its shell."""

    def __init__(self) -> None:
        self.roster, self.presence, self.membership = Roster(), Presence(0.0), Membership("me", 0.0)
        self.edges, self.workers = HeartbeatLog(), HeartbeatLog()
        self.cluster = Cluster(
            self.roster, self.presence, self.membership, edges=self.edges, workers=self.workers
        )
        self.now = 0.0

    def put(self, *records: DeviceRecord) -> None:
        for each in records:
            self.roster.put(device_id(each.app, each.device), each, self.roster.reached + 1)

    def hear(self, *heartbeats: Heartbeat) -> None:
        for each in heartbeats:
            if each.role == "worker":
                self.workers.record(each, self.now)
                if each.leaving:
                    self.membership.on_leave(each.name)
                else:
                    self.membership.on_heartbeat(each.name, self.now)
            else:
                self.edges.record(each, self.now)
                if each.leaving:
                    self.presence.on_leave(each.name, each.incarnation)
                else:
                    self.presence.on_heartbeat(each.name, each.incarnation, self.now)

    def wait(self, seconds: float, heartbeats: Iterable[Heartbeat] = (EDGE, ME)) -> None:
        """Let time pass, in which these arrive."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += INTERVAL
            self.hear(*heartbeats)
            edges = {process.edge for process in self.roster.edge_processes() if process.incarnation}
            self.presence.check(edges, self.now, connected=True)
            self.membership.check(self.now, connected=True)

    def status(self, *, isolated: bool = False, device: DeviceStatus | None = None) -> ClusterStatus:
        at = Moment(self.now, STARTED + round(self.now * 1000))
        return self.cluster.status(at, isolated=isolated, device=device)

    def edge(self, name: str = "e1") -> EdgeStatus | None:
        return next((edge for edge in self.status().edges if edge.name == name), None)

    def worker(self, name: str) -> WorkerStatus | None:
        return next((worker for worker in self.status().workers if worker.name == name), None)

    def problems(self) -> list[tuple[str, str]]:
        return [(problem.kind, problem.sentence) for problem in self.status().problems]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_healthy_cluster_shows_what_every_process_does(watched: Watched) -> None:
    watched.put(
        record("a", match=1, peer="b"),
        record("b", match=1, peer="a"),
        record("c"),
        record("d", match=2, disconnected_at=5),
        record("e", disconnected_at=5),
    )
    watched.wait(2.0, (EDGE, WORKER, ME))
    assert watched.status() == ClusterStatus(
        answered_by="me",
        isolated=False,
        edges=[
            EdgeStatus(
                name="e1",
                state="alive",
                age=2.0,
                heard=0.0,
                version="1.0",
                load=0.25,
                devices=3,
                max_devices=0,
                matched=2,
                waiting=1,
                away=2,
                releasing=0,
            )
        ],
        workers=[
            WorkerStatus(
                name=name,
                state="alive",
                age=2.0,
                heard=0.0,
                version="1.0",
                load=0.5,
                partitions=128,
                devices=7,
            )
            for name in ("me", "w1")
        ],
        problems=[],
    )


def test_a_worker_lists_itself_before_its_first_heartbeat_returns_and_misses_edges(watched: Watched) -> None:
    mine = watched.worker("me")
    assert mine is not None
    assert (mine.state, mine.age, mine.heard, mine.version, mine.partitions) == (
        "alive",
        None,
        None,
        None,
        None,
    )
    assert watched.problems() == [("edges", "No edge is alive.")]


def test_a_silent_edge_is_probed_then_dead_until_its_devices_are_released_and_it_is_forgotten(
    watched: Watched,
) -> None:
    watched.put(record("a"), record("b", match=1), record("c", disconnected_at=5))
    watched.hear(EDGE, replace(EDGE, name="e2"))
    others = (replace(EDGE, name="e2"), ME)
    watched.wait(EDGE_PROBED_AFTER + INTERVAL, others)
    edge = watched.edge()
    assert edge is not None
    assert (edge.state, edge.heard, edge.devices, edge.releasing) == ("silent", 2.0, 3, 0)
    assert watched.problems() == [("silent", "Edge e1 sends no heartbeats and is being probed.")]
    watched.wait(EDGE_DEAD_AFTER, others)
    edge = watched.edge()
    assert edge is not None
    assert (edge.state, edge.waiting, edge.matched, edge.away, edge.releasing) == ("dead", 0, 0, 1, 2)
    assert (edge.devices, edge.load, edge.version) == (None, None, None)
    assert watched.problems() == [("dead", "Edge e1 is dead; its devices are being released.")]
    for name in "ab":
        watched.roster.put(device_id("demo", name), None, 10)
    assert watched.problems() == [("dead", "Edge e1 is dead.")]
    watched.wait(KEPT_FOR, others)
    edge = watched.edge()
    assert edge is not None, "as long as it has devices"
    assert (edge.state, edge.away) == ("dead", 1)
    watched.roster.put(device_id("demo", "c"), None, 11)
    assert watched.edge() is None


def test_a_restarted_edge_is_alive_while_the_devices_of_its_predecessor_are_released(
    watched: Watched,
) -> None:
    watched.put(record("a"), record("b", incarnation=EDGE.incarnation + 1, match=3))
    watched.hear(EDGE, replace(EDGE, incarnation=EDGE.incarnation + 1))
    edge = watched.edge()
    assert edge is not None
    assert (edge.state, edge.matched, edge.waiting, edge.releasing) == ("alive", 1, 0, 1)


def test_a_draining_edge_that_leaves_is_shown_for_a_minute(watched: Watched) -> None:
    watched.hear(EDGE, replace(EDGE, draining=True), ME)
    edge = watched.edge()
    assert edge is not None
    assert edge.state == "draining"
    watched.hear(replace(EDGE, draining=True, leaving=True))
    edge = watched.edge()
    assert edge is not None
    assert edge.state == "left"
    assert watched.problems() == [("edges", "No edge is alive.")]
    watched.wait(LEFT_KEPT_FOR, (ME,))
    assert watched.edge() is not None
    watched.wait(INTERVAL, (ME,))
    assert watched.edge() is None


def test_an_edge_that_accepts_no_more_devices_is_full(watched: Watched) -> None:
    watched.hear(replace(EDGE, max_devices=4000, devices=3999))
    assert not watched.problems()
    watched.hear(replace(EDGE, max_devices=4000, devices=4000))
    assert watched.problems() == [("full", "Edge e1 is full: its limit is 4,000.")]


def test_two_running_edges_of_one_name_are_a_conflict(watched: Watched) -> None:
    for _ in range(3):
        watched.wait(INTERVAL, (EDGE, replace(EDGE, incarnation=EDGE.incarnation + 1), ME))
    edge = watched.edge()
    assert edge is not None
    assert edge.state == "conflict"
    assert [kind for kind, _ in watched.problems()] == ["conflict"]
    watched.wait(EDGE_DEAD_AFTER + INTERVAL, (replace(EDGE, incarnation=EDGE.incarnation + 1), ME))
    edge = watched.edge()
    assert edge is not None
    assert edge.state == "alive"


def test_an_edge_of_an_older_version_is_shown_with_what_is_known(watched: Watched) -> None:
    watched.put(record("a", "records only"), record("b", "ancient", incarnation=0))
    watched.hear(Heartbeat(role="edge", name="old", incarnation=EDGE.incarnation, max_devices=1, devices=1))
    watched.wait(INTERVAL, ())
    old, ancient, only = (watched.edge(name) for name in ("old", "ancient", "records only"))
    assert old is not None
    assert (old.state, old.age, old.version, old.devices, old.load) == ("alive", 0.5, None, None, None)
    assert only is not None
    assert (only.state, only.age, only.heard, only.waiting) == ("alive", None, None, 1)
    assert ancient is not None
    assert (ancient.state, ancient.age, ancient.waiting) == ("unknown", None, 1)
    watched.presence.on_heartbeat("records only", EDGE.incarnation, watched.now)  # it answered a probe
    only = watched.edge("records only")
    assert only is not None
    assert only.age == 0.5


def test_a_worker_without_heartbeats_is_silent_and_one_that_left_has_left(watched: Watched) -> None:
    watched.wait(1.0, (EDGE, WORKER, ME))
    watched.hear(replace(WORKER, name="w2"), replace(WORKER, name="w2", leaving=True))
    watched.wait(3.0)
    silent, left = watched.worker("w1"), watched.worker("w2")
    assert silent is not None
    assert (silent.state, silent.heard, silent.partitions) == ("silent", 3.0, None)
    assert left is not None
    assert left.state == "left"
    assert watched.problems() == [("silent", "Worker w1 sends no heartbeats; others serve its partitions.")]
    watched.hear(WORKER)
    back = watched.worker("w1")
    assert back is not None
    assert (back.state, back.partitions) == ("alive", 128)
    watched.wait(KEPT_FOR + INTERVAL)
    assert [worker.name for worker in watched.status().workers] == ["me"]


def test_mixed_versions_and_an_isolated_worker_are_problems(watched: Watched) -> None:
    watched.hear(EDGE, replace(WORKER, version="1.1"), replace(WORKER, name="w0", version=""))
    kinds = [(problem.kind, problem.sentence) for problem in watched.status(isolated=True).problems]
    assert kinds == [
        ("isolated", "Worker me, which answered, is cut off from NATS: this may be outdated."),
        ("versions", "Different versions are running: 1.0, 1.1."),
    ]
    assert watched.status(isolated=True).isolated
    assert all(problem.advice for problem in watched.status(isolated=True).problems)


def test_a_device_is_found_with_its_edge_and_its_peers(watched: Watched) -> None:
    watched.put(
        record("a/1", match=7, peer="b"),
        record("b", "e2", match=7, peer="a/1"),
        record("c"),
        record("d", match=8, peer="lost", disconnected_at=STARTED),
    )
    assert watched.cluster.find("demo", "nobody") is None
    assert watched.cluster.find("other", "c") is None
    assert watched.cluster.find("demo", "a/1") == DeviceStatus(
        app="demo",
        id="a/1",
        edge="e1",
        state="matched",
        since=STARTED + 5000,
        match=7,
        peer="b",
        peer_edge="e2",
    )
    waiting = watched.cluster.find("demo", "c")
    assert waiting is not None
    assert (waiting.state, waiting.match, waiting.peer, waiting.peer_edge) == ("waiting", None, None, None)
    away = watched.cluster.find("demo", "d")
    assert away is not None
    assert (away.state, away.since, away.match, away.peer, away.peer_edge) == (
        "away",
        STARTED,
        8,
        "lost",
        None,
    )
    assert watched.status(device=away).device == away
