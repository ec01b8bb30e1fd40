"""What there is: all edges and workers, what is wrong with them, and which edge holds a device.

Put together from what the parts of a worker know: `Presence` which edges are alive, `Membership` which
workers, `Roster` which devices there are, `HeartbeatLog` what each process said of itself. Takes time
proportional to the number of processes, not of devices.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from cloudmatch_bus.contract.messages import DeviceRecord, Heartbeat
from cloudmatch_match_engine.core.heartbeat_log import Heard, HeartbeatLog
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.membership import Membership
from cloudmatch_match_engine.core.presence import Presence, Sighting
from cloudmatch_match_engine.core.roster import Counts, Roster

# conflict: an older process of this name is still running, although it counts as dead. silent: being probed.
# unknown: only records name it, and its version sends no heartbeats.
EdgeState = Literal["alive", "draining", "full", "silent", "dead", "left", "conflict", "unknown"]
WorkerState = Literal["alive", "silent", "left"]
DeviceState = Literal["waiting", "matched", "away"]

GONE: tuple[EdgeState, ...] = ("dead", "left")


class EdgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An edge. What only its heartbeats tell is null if they do not, or if it is dead or has left."""

    name: str
    state: EdgeState
    age: float | None  # s since it started, by its own clock
    heard: float | None  # s since its last heartbeat
    version: str | None
    load: float | None  # CPU time since its last heartbeat, as a share of one core
    devices: int | None  # connected, as it says
    max_devices: int | None  # that it accepts; 0: unlimited
    matched: int  # connected and in a match, as the bucket has it
    waiting: int  # connected and in no match
    away: int  # disconnected, in a match or not
    releasing: int  # of dead processes of this name: connected in the bucket, still to be released


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker. What only its heartbeats tell is null if they do not, or if it is silent or has left."""

    name: str
    state: WorkerState
    age: float | None  # s since it started, by its own clock
    heard: float | None  # s since its last heartbeat
    version: str | None
    load: float | None  # CPU time since its last heartbeat, as a share of one core
    partitions: int | None  # that it serves
    devices: int | None  # in its mirror


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a device is."""

    app: str
    id: str
    edge: str  # that holds it; of one that is away: held it
    state: DeviceState  # away: disconnected, in a match or not
    since: int  # ms since 1970: of its connection; of one that is away, when that ended
    match: int | None
    peer: str | None
    peer_edge: str | None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and what to do about it."""

    kind: Literal["isolated", "conflict", "dead", "silent", "full", "versions", "edges"]
    sentence: str
    advice: str


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All edges and workers, as one worker sees them."""

    answered_by: str  # a worker
    isolated: bool  # whether it is cut off from the bus, so that all this may be outdated
    edges: list[EdgeStatus]
    workers: list[WorkerStatus]
    problems: list[Problem]
    device: DeviceStatus | None = None  # the one asked for


class Moment(NamedTuple):
    """When a question is asked."""

    now: float  # s, monotonic, as in heartbeat logs
    clock: int  # ms since 1970


class _Devices(NamedTuple):
    """The devices in the bucket that name an edge."""

    alive: Counts
    releasing: int


class Cluster:
    """The edges, workers and devices that one worker knows of.

    Args:
        edges, workers: what they said.
    """

    def __init__(
        self,
        roster: Roster,
        presence: Presence,
        membership: Membership,
        *,
        edges: HeartbeatLog,
        workers: HeartbeatLog,
    ) -> None:
        self._roster, self._presence, self._membership = roster, presence, membership
        self._edges, self._workers = edges, workers

    def status(self, at: Moment, *, isolated: bool, device: DeviceStatus | None = None) -> ClusterStatus:
        """Return all edges and workers by name, and what is wrong."""
        me = self._membership.me
        edges = list(self._edge_statuses(at))
        workers = list(self._worker_statuses(at))
        problems = list(_problems(me, isolated, edges, workers))
        return ClusterStatus(
            answered_by=me, isolated=isolated, edges=edges, workers=workers, problems=problems, device=device
        )

    def find(self, app: str, device: str) -> DeviceStatus | None:
        """Return where a device is; None if it is not in the bucket."""
        record = self._record(app, device)
        if record is None:
            return None
        peer = None if record.peer is None else self._record(app, record.peer)
        away = record.disconnected_at
        return DeviceStatus(
            app=app,
            id=device,
            edge=record.edge,
            state="away" if away is not None else "waiting" if record.match is None else "matched",
            since=record.connection_id // 1000 if away is None else away,
            match=record.match,
            peer=record.peer,
            peer_edge=None if peer is None else peer.edge,
        )

    def _record(self, app: str, device: str) -> DeviceRecord | None:
        mirrored = self._roster.get(device_id(app, device))
        return None if mirrored is None else mirrored.record

    # -- edges

    def _edge_statuses(self, at: Moment) -> Iterator[EdgeStatus]:
        devices = self._devices()
        for name in sorted({*self._edges.recent(at.now), *devices}):
            counted = devices.get(name) or _Devices(Counts(), 0)
            heard, sighting = self._edges.get(name), self._presence.sighting(name)
            yield _edge(name, heard, sighting, counted, at)

    def _devices(self) -> dict[str, _Devices]:
        """Return the devices of each edge."""
        found: dict[str, _Devices] = {}
        for process, counts in self._roster.counts().items():
            alive, releasing = found.get(process.edge, _Devices(Counts(), 0))
            if self._presence.is_dead(*process):
                alive = Counts(alive.waiting, alive.matched, alive.away + counts.away)
                releasing += counts.connected
            else:
                alive = Counts(
                    alive.waiting + counts.waiting, alive.matched + counts.matched, alive.away + counts.away
                )
            found[process.edge] = _Devices(alive, releasing)
        return found

    # -- workers

    def _worker_statuses(self, at: Moment) -> Iterator[WorkerStatus]:
        alive = self._membership.workers
        for name in sorted({*self._workers.recent(at.now), *alive}):
            heard = self._workers.get(name)
            if name in alive:
                state: WorkerState = "alive"
            else:
                state = "left" if heard is not None and heard.heartbeat.leaving else "silent"
            said = _said(heard) if state == "alive" else None
            yield WorkerStatus(
                name=name,
                state=state,
                age=_age(heard, None, at),
                heard=_heard_ago(heard, at),
                version=said.version if said else None,
                load=said.load if said else None,
                partitions=said.partitions if said else None,
                devices=said.devices if said else None,
            )


def _edge(
    name: str, heard: Heard | None, sighting: Sighting | None, devices: _Devices, at: Moment
) -> EdgeStatus:
    state = _edge_state(heard, sighting, at.now)
    said = None if state in GONE else _said(heard)
    return EdgeStatus(
        name=name,
        state=state,
        age=_age(heard, sighting, at),
        heard=_heard_ago(heard, at),
        version=said.version if said else None,
        load=said.load if said else None,
        devices=said.devices if said else None,
        max_devices=said.max_devices if said else None,
        matched=devices.alive.matched,
        waiting=devices.alive.waiting,
        away=devices.alive.away,
        releasing=devices.releasing,
    )


def _edge_state(heard: Heard | None, sighting: Sighting | None, now: float) -> EdgeState:
    if heard is not None and heard.contested(now):
        return "conflict"
    if heard is not None and heard.heartbeat.leaving:
        return "left"
    if sighting is None:
        return "unknown"
    if sighting.dead:
        return "dead"
    if sighting.silent:
        return "silent"
    if heard is None:
        return "alive"
    if heard.heartbeat.draining:
        return "draining"
    said = _said(heard)
    return "full" if said is not None and 0 < said.max_devices <= said.devices else "alive"


def _said(heard: Heard | None) -> Heartbeat | None:
    """Return a heartbeat if its version fills in what it does."""
    return heard.heartbeat if heard is not None and heard.heartbeat.version else None


def _age(heard: Heard | None, sighting: Sighting | None, at: Moment) -> float | None:
    started = heard.heartbeat.incarnation if heard is not None else sighting.incarnation if sighting else 0
    return round(max(0.0, at.clock / 1e3 - started / 1e6), 1) if started else None


def _heard_ago(heard: Heard | None, at: Moment) -> float | None:
    return None if heard is None else round(at.now - heard.at, 1)


# -- what is wrong


def _problems(
    me: str, isolated: bool, edges: list[EdgeStatus], workers: list[WorkerStatus]
) -> Iterator[Problem]:
    """Yield what is wrong. Sentences hold no times, so that they stay the same while a problem lasts."""
    if isolated:
        yield Problem(
            kind="isolated",
            sentence=f"Worker {me}, which answered, is cut off from NATS: this may be outdated.",
            advice="Ask another worker, and check its connection to NATS.",
        )
    if all(edge.state in GONE for edge in edges):
        yield Problem(kind="edges", sentence="No edge is alive.", advice="Start one.")
    for edge in edges:
        yield from _problems_of(edge)
    for worker in workers:
        if worker.state == "silent":
            yield Problem(
                kind="silent",
                sentence=f"Worker {worker.name} sends no heartbeats; others serve its partitions.",
                advice="If it was not stopped on purpose: is it frozen, or cut off from NATS?",
            )
    versions = {edge.version for edge in edges} | {worker.version for worker in workers}
    known = sorted(version for version in versions if version is not None)
    if len(known) > 1:
        yield Problem(
            kind="versions",
            sentence=f"Different versions are running: {', '.join(known)}.",
            advice="They work together, but finish the upgrade.",
        )


def _problems_of(edge: EdgeStatus) -> Iterator[Problem]:
    if edge.state == "conflict":
        yield Problem(
            kind="conflict",
            sentence=f"Two edges are named {edge.name}: devices of the older one are removed repeatedly.",
            advice="Restart the older one with its own CLOUDMATCH_EDGE_NAME or CLOUDMATCH_EDGE_INDEX.",
        )
    elif edge.state == "dead":
        rest = "; its devices are being released" if edge.releasing else ""
        yield Problem(
            kind="dead",
            sentence=f"Edge {edge.name} is dead{rest}.",
            advice="If it was not stopped on purpose, start it again and see the end of its log.",
        )
    elif edge.state == "silent":
        yield Problem(
            kind="silent",
            sentence=f"Edge {edge.name} sends no heartbeats and is being probed.",
            advice="Is it frozen, overloaded, or cut off from NATS?",
        )
    elif edge.state == "full":
        yield Problem(
            kind="full",
            sentence=f"Edge {edge.name} is full: its limit is {edge.max_devices:,}.",
            advice="Start another edge, or raise CLOUDMATCH_EDGE_MAX_CONNECTIONS.",
        )
