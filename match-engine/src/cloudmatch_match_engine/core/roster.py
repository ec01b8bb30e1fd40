"""The devices in a worker's mirror of the bucket: by state, edge and location, and where batches go.

Fed by the bucket's watch, in the order of revisions. `reached` is the revision up to which it is right.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import DeviceId, device_id
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.pool import MirroredDevice, Pool
from cloudmatch_match_engine.core.transitions import is_same


class Route(NamedTuple):
    """Where the batches of one match go from one device, on the edge that holds it."""

    prefix: str  # of their reply addresses
    subject: str
    edge: str  # token, of the edge that holds the device


class EdgeProcess(NamedTuple):
    """A process that holds connections: an edge's name and its incarnation (0: unknown)."""

    edge: str
    incarnation: int


@dataclass
class Counts:
    """How many devices an edge process has, or had when they were disconnected."""

    waiting: int = 0
    matched: int = 0
    away: int = 0  # disconnected, in a match or not

    @property
    def connected(self) -> int:
        """Devices whose connections it holds."""
        return self.waiting + self.matched

    def add(self, record: DeviceRecord, change: int) -> None:
        """Count one device more, or one less."""
        if record.disconnected_at is not None:
            self.away += change
        elif record.match is None:
            self.waiting += change
        else:
            self.matched += change


class Since(NamedTuple):
    """Since when the mirror shows something of a device: s of this worker's monotonic clock."""

    connection: float  # its newest connection
    presence: float  # that this is open, or over


def _since(record: DeviceRecord, now: float, old: DeviceRecord | None, since: Since | None) -> Since:
    """Return since when a record that follows `old` holds. When an absence began is no more than its name."""
    if old is None or since is None or not is_same(record, old):
        return Since(now, now)
    return since if record.disconnected_at == old.disconnected_at else Since(since.connection, now)


class Roster:
    """All devices, as the watch has shown them. `planar`: the reach in degrees of those without a radius."""

    def __init__(self, planar: float = PLANAR_REACH) -> None:
        self.reached = 0
        self.completions = 0  # how often the watch has shown every key
        self._planar = planar
        self._devices: dict[DeviceId, MirroredDevice] = {}
        # (app, tag) → waiting devices
        self._waiting: dict[tuple[str, str | None], Pool] = {}
        self._disconnected: dict[DeviceId, MirroredDevice] = {}
        self._connected: dict[EdgeProcess, dict[DeviceId, MirroredDevice]] = {}
        self._counts: dict[EdgeProcess, Counts] = {}
        self._routes: dict[DeviceId, Route] = {}
        self._since: dict[DeviceId, Since] = {}
        # devices that the watch has not shown since it restarted
        self._unconfirmed: set[DeviceId] = set()

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device: DeviceId) -> MirroredDevice | None:
        """Return a device, or None if it is not in the bucket."""
        return self._devices.get(device)

    def waiting(self, app: str, tag: str | None) -> Pool:
        """Return the connected devices that wait with this app and tag."""
        return self._waiting.get((app, tag)) or Pool(self._planar)

    def count_waiting(self) -> int:
        """Count all connected devices that wait."""
        return sum(map(len, self._waiting.values()))

    def everyone(self) -> list[MirroredDevice]:
        """Return all devices, as of now."""
        return list(self._devices.values())

    def disconnected(self) -> Iterable[MirroredDevice]:
        """Return the devices without a connection."""
        return self._disconnected.values()

    def edge_processes(self) -> Iterable[EdgeProcess]:
        """Return all processes that hold connections, dead ones included."""
        return self._connected.keys()

    def connected_to(self, process: EdgeProcess) -> Iterable[MirroredDevice]:
        """Return the devices whose connections a process holds."""
        return self._connected.get(process, {}).values()

    def counts(self) -> Mapping[EdgeProcess, Counts]:
        """Return how many devices each process has that holds, or held, any of those in the bucket."""
        return self._counts

    def restart(self) -> None:
        """Prepare for a restart of the watch: devices that it does not show until `complete` are gone."""
        self.reached = 0  # the watch may now read from a server that is behind the previous one
        self._unconfirmed = set(self._devices)

    def complete(self) -> None:
        """Remove all devices that the restarted watch has not shown."""
        for device in self._unconfirmed:
            self._remove(device)
        self._unconfirmed.clear()
        self.completions += 1

    def put(self, device: DeviceId, record: DeviceRecord | None, revision: int, now: float = 0.0) -> None:
        """Store a device's record; None removes it. `now`: s of this worker's monotonic clock."""
        self._unconfirmed.discard(device)
        old, since = self._devices.get(device), self._since.get(device)
        self._remove(device)
        if record is not None:
            self._add(device, MirroredDevice(record, revision))
            self._since[device] = _since(record, now, old.record if old else None, since)
        self.advance(revision)

    def since(self, device: DeviceId) -> Since:
        """Return since when the mirror shows a device's connection, and how it is."""
        return self._since[device]

    def absent_for(self, record: DeviceRecord, now: float) -> float:
        """How many seconds a device has been disconnected, at least; 0 if the mirror does not show it."""
        since = self._since.get(device_id(record.app, record.device))
        return 0.0 if record.disconnected_at is None or since is None else now - since.presence

    def advance(self, revision: int) -> None:
        """Note that the bucket has reached a revision."""
        self.reached = max(self.reached, revision)

    def route(self, source: DeviceId) -> Route | None:
        """Return where batches of `source` go; None unless both devices are known to be in the match."""
        route = self._routes.get(source)
        if route is None:
            mirrored = self._devices.get(source)
            if mirrored is None or mirrored.record.match is None or mirrored.record.peer is None:
                return None
            record = mirrored.record
            peer = self._devices.get(device_id(record.app, mirrored.record.peer))
            if peer is None or peer.record.match != record.match:
                return None
            subject = subjects.dn(record.app, peer.record.edge, peer.record.device)
            prefix = subjects.ack_prefix(record.app, record.edge, record.device, mirrored.record.match)
            route = self._routes[source] = Route(prefix, subject, subjects.token(record.edge))
        return route

    def _add(self, device: DeviceId, mirrored: MirroredDevice) -> None:
        record = mirrored.record
        self._devices[device] = mirrored
        process = EdgeProcess(record.edge, record.incarnation)
        self._counts.setdefault(process, Counts()).add(record, 1)
        if record.disconnected_at is not None:
            self._disconnected[device] = mirrored
            return
        self._connected.setdefault(process, {})[device] = mirrored
        if record.match is None:
            group = (record.app, record.tag)
            if (pool := self._waiting.get(group)) is None:
                pool = self._waiting[group] = Pool(self._planar)
            pool.add(device, mirrored)

    def _remove(self, device: DeviceId) -> None:
        old = self._devices.pop(device, None)
        if old is None:
            return
        record = old.record
        del self._since[device]
        self._routes.pop(device, None)
        if record.peer is not None:  # its batches no longer go to this record's edge
            self._routes.pop(DeviceId(device.app, subjects.token(record.peer)), None)
        process = EdgeProcess(record.edge, record.incarnation)
        counts = self._counts[process]
        counts.add(record, -1)
        if not counts.connected and not counts.away:
            del self._counts[process]
        if record.disconnected_at is not None:
            del self._disconnected[device]
            return
        connected = self._connected[process]
        del connected[device]
        if not connected:
            del self._connected[process]
        if record.match is None:
            group = (record.app, record.tag)
            pool = self._waiting[group]
            pool.remove(device)
            if not pool:
                del self._waiting[group]
