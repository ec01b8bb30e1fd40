"""What people ask a worker, by HTTP and on the bus: why is a device not matched, and what is there?"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from litestar.exceptions import ServiceUnavailableException

from cloudmatch_bus.client.micro import Endpoint, EndpointError
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL
from cloudmatch_bus.contract.messages import encode
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.searches import Searches
from cloudmatch_match_engine.core.cluster import Cluster, ClusterStatus, Moment
from cloudmatch_match_engine.core.distances import Told
from cloudmatch_match_engine.core.explain import Explanation, explain, survey
from cloudmatch_match_engine.core.keys import device_id
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


class Inspection:
    """Answers from what one worker knows.

    Both questions raise `LookupError` while the worker knows too little, and `UnknownDeviceError`.

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
        self._check()
        mirrored = self._roster.get(device_id(app, device))
        if mirrored is None:
            raise UnknownDeviceError(app, device)
        me, everyone = mirrored.record, self._roster.everyone()
        found = await self._searches.run(lambda: survey(me, everyone))
        absent = partial(self._roster.absent_for, now=self._clock())
        return explain(me, found, self._reach, absent, self._distance)

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
        """Return both questions as endpoints of a micro service."""
        return [
            Endpoint("explain", subjects.explain(), self._on_explain),
            Endpoint("cluster", subjects.cluster(), self._on_cluster),
        ]

    async def _on_explain(self, payload: bytes) -> bytes:
        request = _decode(payload, ExplainRequest)
        with _bus_errors():
            return encode(await self.explain(request.app, request.id))

    async def _on_cluster(self, payload: bytes) -> bytes:
        request = _decode(payload, ClusterRequest)
        with _bus_errors():
            return encode(self.cluster(request.app, request.id))


R = TypeVar("R", ExplainRequest, ClusterRequest)


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
