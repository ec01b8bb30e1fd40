"""The mirror of the bucket in a worker: who waits, who is away, who is paired, and so where a frame goes.

Fed by the bucket's watch, in the order of revisions. `reached` is the revision up to which it is right.
"""

from collections.abc import Iterable
from typing import NamedTuple

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import DeviceId, device_id
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.pool import Known, Pool


class Route(NamedTuple):
    """Where the frames of one match go from one device."""

    match: int
    subject: str


class Holder(NamedTuple):
    """A process that holds connections: an edge's name, and when it started (0: it did not say)."""

    edge: str
    incarnation: int


class Roster:
    """All devices, as far as the watch has told. `planar`: the reach in degrees of those without a radius."""

    def __init__(self, planar: float = PLANAR_REACH) -> None:
        self.reached = 0
        self.completions = 0  # how often the watch has named all there was
        self._planar = planar
        self._devices: dict[DeviceId, Known] = {}
        # (app, tag) → devices that wait
        self._waiting: dict[tuple[str, str | None], Pool] = {}
        self._away: dict[DeviceId, Known] = {}
        self._held: dict[Holder, dict[DeviceId, Known]] = {}
        self._routes: dict[DeviceId, Route] = {}
        # devices that the watch has not named again since it began anew
        self._unseen: set[DeviceId] = set()

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device: DeviceId) -> Known | None:
        """What is known of a device."""
        return self._devices.get(device)

    def waiting(self, app: str, tag: str | None) -> Pool:
        """Those that wait with this app and tag, and are there."""
        return self._waiting.get((app, tag)) or Pool(self._planar)

    def count_waiting(self) -> int:
        """How many wait and are there."""
        return sum(map(len, self._waiting.values()))

    def of_app(self, app: str) -> Iterable[Known]:
        """All devices of an app: a look at everyone."""
        return (known for known in self._devices.values() if known.record.app == app)

    def disconnected(self) -> Iterable[Known]:
        """Those that have no connection."""
        return self._away.values()

    def holders(self) -> Iterable[Holder]:
        """All processes that hold connections, or did when they died."""
        return self._held.keys()

    def held(self, holder: Holder) -> Iterable[Known]:
        """Those whose connections are held there."""
        return self._held.get(holder, {}).values()

    def restart(self) -> None:
        """The watch begins anew: what it does not name until `complete` is gone."""
        self.reached = 0  # it may read from a server that is behind the one it read from before
        self._unseen = set(self._devices)

    def complete(self) -> None:
        """The watch has named all there was."""
        for device in self._unseen:
            self._forget(device)
        self._unseen.clear()
        self.completions += 1

    def put(self, device: DeviceId, record: DeviceRecord | None, revision: int) -> None:
        """Learn a device's record; None: it is gone."""
        self._unseen.discard(device)
        self._forget(device)
        if record is not None:
            known = self._devices[device] = Known(record, revision)
            if record.disconnected_at is not None:
                self._away[device] = known
            else:
                self._held.setdefault(Holder(record.edge, record.incarnation), {})[device] = known
                if record.match is None:
                    group = (record.app, record.tag)
                    if (pool := self._waiting.get(group)) is None:
                        pool = self._waiting[group] = Pool(self._planar)
                    pool.add(device, known)
        self.advance(revision)

    def advance(self, revision: int) -> None:
        """Learn that the bucket has reached a revision."""
        self.reached = max(self.reached, revision)

    def route(self, source: DeviceId) -> Route | None:
        """Where frames of `source` go; None while it is not, or not known to be, in a match."""
        route = self._routes.get(source)
        if route is None:
            known = self._devices.get(source)
            if known is None or known.record.match is None or known.record.peer is None:
                return None
            record = known.record
            peer = self._devices.get(device_id(record.app, known.record.peer))
            if peer is None or peer.record.match != record.match:
                return None
            subject = subjects.dn(record.app, peer.record.edge, peer.record.device)
            route = self._routes[source] = Route(known.record.match, subject)
        return route

    def _forget(self, device: DeviceId) -> None:
        old = self._devices.pop(device, None)
        if old is None:
            return
        self._routes.pop(device, None)
        if old.record.peer is not None:  # whose frames go elsewhere now
            self._routes.pop(DeviceId(device.app, subjects.token(old.record.peer)), None)
        record = old.record
        if record.disconnected_at is not None:
            del self._away[device]
            return
        holder = Holder(record.edge, record.incarnation)
        held = self._held[holder]
        del held[device]
        if not held:
            del self._held[holder]
        if record.match is None:
            group = (record.app, record.tag)
            pool = self._waiting[group]
            pool.remove(device)
            if not pool:
                del self._waiting[group]
