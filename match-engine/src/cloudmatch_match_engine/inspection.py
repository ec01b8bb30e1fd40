"""What people and backends ask a worker, by HTTP and on the bus: who is there, and why not matched?"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from litestar.exceptions import ServiceUnavailableException

from cloudmatch_bus.client.micro import Endpoint, EndpointError
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL
from cloudmatch_bus.contract.messages import DeviceRecord, encode
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.searches import Searches
from cloudmatch_match_engine.core.cluster import Cluster, ClusterStatus, Moment
from cloudmatch_match_engine.core.distances import Told
from cloudmatch_match_engine.core.explain import Explanation, State, explain, survey
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.listing import LARGEST, ListedDevice, Page, Wanted, listed, page, position
from cloudmatch_match_engine.core.roster import Roster

COMPLETE_AFTER = 2 * HEARTBEAT_INTERVAL  # s in which a new worker hears of every process


class UnknownDeviceError(Exception):
    """A device is not in the bucket."""

    def __init__(self, app: str, device: str) -> None:
        super().__init__(f"no device '{device}' is connected in app '{app}'")


class ExplainRequest(msgspec.Struct, frozen=True):
    """The payload of a request on the bus to explain a device's state."""

    id: str
    app: str = "default"


class ClusterRequest(msgspec.Struct, frozen=True):
    """The payload of a request on the bus for all edges and workers, and where one device is."""

    id: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    app: str = "default"


class DeviceRequest(msgspec.Struct, frozen=True):
    """The payload of a request on the bus for one device."""

    id: str
    app: str = "default"


class DevicesRequest(msgspec.Struct, frozen=True):
    """The payload of a request on the bus for devices of an app, as in `Wanted`."""

    app: str = "default"
    state: State | msgspec.UnsetType = msgspec.UNSET
    connected: bool | msgspec.UnsetType = msgspec.UNSET
    tag: str | msgspec.UnsetType | None = msgspec.UNSET
    limit: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)] = 100
    cursor: str = ""  # `next` of the page before


class Inspection:
    """Answers from what one worker knows.

    All questions raise `LookupError` while the worker knows too little, and `UnknownDeviceError`.

    Args:
        incomplete: why the roster is, or None.
        reach: in degrees, of devices without a radius.
        clock: s, monotonic.
        distance: how it is told.
    """

    def __init__(
        self,
        roster: Roster,
        incomplete: Callable[[], str | None],
        reach: float,
        clock: Callable[[], float],
        distance: Told = "rounded",
    ) -> None:
        self._roster, self._incomplete, self._reach, self._clock = roster, incomplete, reach, clock
        self._distance: Told = distance
        self._searches = Searches()
        self._cluster: Cluster | None = None
        self._joined_at = 0.0  # s
        self._isolated: Callable[[], bool] = lambda: True

    def join(self, cluster: Cluster, isolated: Callable[[], bool]) -> None:
        """Begin to answer questions about the cluster: the worker takes part in it."""
        self._cluster, self._isolated, self._joined_at = cluster, isolated, self._clock()

    async def explain(self, app: str, device: str) -> Explanation:
        """Explain a device's state. A thread searches for whoever is near: there may be many devices."""
        me, everyone = self._find(app, device), self._roster.everyone()
        found = await self._searches.run(lambda: survey(me, everyone))
        absent = partial(self._roster.absent_for, now=self._clock())
        return explain(me, found, self._reach, absent, self._distance)

    async def devices(self, wanted: Wanted, cursor: str, limit: int) -> Page:
        """List devices. A thread looks for them: there may be many.

        Raises:
            ValueError: the cursor is none of ours.
        """
        after = position(cursor)
        self._check()
        everyone = self._roster.everyone()
        return await self._searches.run(lambda: page(everyone, wanted, after, limit))

    def device(self, app: str, device: str) -> ListedDevice:
        """Return one device."""
        return listed(self._find(app, device))

    def _find(self, app: str, device: str) -> DeviceRecord:
        self._check()
        mirrored = self._roster.get(device_id(app, device))
        if mirrored is None:
            raise UnknownDeviceError(app, device)
        return mirrored.record

    def cluster(self, app: str = "default", device: str | None = None) -> ClusterStatus:
        """Return all edges and workers, and where a device is."""
        self._check()
        if self._cluster is None or self._clock() - self._joined_at < COMPLETE_AFTER:
            raise LookupError("the worker has just started and may not have heard of every process yet")
        found = None if device is None else self._cluster.find(app, device)
        if device is not None and found is None:
            raise UnknownDeviceError(app, device)
        return self._cluster.status(Moment(self._clock(), now_ms()), isolated=self._isolated(), device=found)

    def _check(self) -> None:
        if reason := self._incomplete():
            raise LookupError(reason)

    # -- on the bus

    def endpoints(self) -> list[Endpoint]:
        """Return all questions as endpoints of a micro service."""
        return [
            Endpoint("explain", subjects.explain(), self._on_explain),
            Endpoint("cluster", subjects.cluster(), self._on_cluster),
            Endpoint("devices", subjects.devices(), self._on_devices),
            Endpoint("device", subjects.device(), self._on_device),
        ]

    async def _on_explain(self, payload: bytes) -> bytes:
        request = _decode(payload, ExplainRequest)
        with _bus_errors():
            return encode(await self.explain(request.app, request.id))

    async def _on_cluster(self, payload: bytes) -> bytes:
        request = _decode(payload, ClusterRequest)
        with _bus_errors():
            return encode(self.cluster(request.app, request.id))

    async def _on_devices(self, payload: bytes) -> bytes:
        asked = _decode(payload, DevicesRequest)
        wanted = Wanted(app=asked.app, state=asked.state, connected=asked.connected, tag=asked.tag)
        with _bus_errors():
            return encode(await self.devices(wanted, asked.cursor, asked.limit))

    async def _on_device(self, payload: bytes) -> bytes:
        request = _decode(payload, DeviceRequest)
        with _bus_errors():
            return encode(self.device(request.app, request.id))


R = TypeVar("R", ExplainRequest, ClusterRequest, DeviceRequest, DevicesRequest)


def _decode(payload: bytes, request: type[R]) -> R:
    try:
        return msgspec.json.decode(payload, type=request)
    except UNREADABLE as error:
        raise EndpointError(400, str(error)) from None


@contextlib.contextmanager
def _bus_errors() -> Iterator[None]:
    try:
        yield
    except (LookupError, ServiceUnavailableException) as error:
        raise EndpointError(503, str(error)) from None
    except UnknownDeviceError as error:
        raise EndpointError(404, str(error)) from None
    except ValueError as error:
        raise EndpointError(400, str(error)) from None
