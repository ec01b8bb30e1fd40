"""match-engine's HTTP interface beside the probes: why a device is not matched, and what there is."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar

import msgspec
from litestar import get
from litestar.exceptions import ClientException, NotFoundException, ServiceUnavailableException
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from cloudmatch_bus.process.http import KEYED, Asking, errors
from cloudmatch_bus.process.http_keys import guard, require_app
from cloudmatch_match_engine.core.cluster import ClusterStatus
from cloudmatch_match_engine.core.explain import Explanation, State
from cloudmatch_match_engine.core.listing import LARGEST, ListedDevice, Page, Wanted
from cloudmatch_match_engine.inspection import Inspection, UnknownDeviceError

App = Annotated[str, QueryParameter(name="app", description="The device's app.")]
Device = Annotated[str, QueryParameter(name="id", description="The device's id.", min_length=1)]
MaybeDevice = Annotated[
    str | None, QueryParameter(name="id", description="Also say where this device is.", min_length=1)
]

OnlyState = Annotated[State | None, QueryParameter(name="state", description="Only devices in this state.")]
Connected = Annotated[
    bool | None, QueryParameter(name="connected", description="Only devices that are connected, or are not.")
]
Tag = Annotated[str | None, QueryParameter(name="tag", description="Only devices with this tag.")]
Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=LARGEST, description="Devices, at most.")]
Cursor = Annotated[str, QueryParameter(name="cursor", description="`next` of the page before.")]

T = TypeVar("T")
EXPLAIN = guard("explain:read")
ERRORS = KEYED | errors(
    bad_request="The query is malformed.",
    not_found="No such device is connected.",
    unavailable="The worker has no complete view yet.",
)


@contextlib.contextmanager
def _http_errors() -> Iterator[None]:
    try:
        yield
    except LookupError as error:
        raise ServiceUnavailableException(str(error)) from None
    except UnknownDeviceError as error:
        raise NotFoundException(str(error)) from None
    except ValueError as error:
        raise ClientException(str(error)) from None


def routes(inspection: Callable[[], Inspection]) -> list[ControllerRouterHandler]:
    """Make the routes.

    Args:
        inspection: raises `LookupError` until there is one.
    """

    @get("/match/explain", guards=[EXPLAIN], responses=ERRORS)
    async def explained(request: Asking, device: Device, app: App = "default") -> Explanation:
        """Explain a device's state, and why it is not matched with its nearest neighbours."""
        require_app(request, app)
        with _http_errors():
            return await inspection().explain(app, device)

    @get("/cluster", guards=[EXPLAIN], sync_to_thread=False, responses=ERRORS)
    def cluster(request: Asking, device: MaybeDevice = None, app: App = "default") -> ClusterStatus:
        """Return all edges and workers, what is wrong with them, and which edge holds a device."""
        if device is not None:
            require_app(request, app)
        with _http_errors():
            return inspection().cluster(app, device)

    @get("/devices", guards=[guard("devices:read")], responses=ERRORS)
    async def devices(
        request: Asking,
        app: App = "default",
        only: OnlyState = None,
        connected: Connected = None,
        tag: Tag = None,
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> Page:
        """List the devices of an app, in the order of their ids: whoever stays is listed once, whatever comes
        and goes meanwhile."""
        require_app(request, app)
        wanted = Wanted(app=app, state=_given(only), connected=_given(connected), tag=_given(tag))
        with _http_errors():
            return await inspection().devices(wanted, cursor, limit)

    @get("/device", guards=[guard("devices:read")], sync_to_thread=False, responses=ERRORS)
    def one(request: Asking, device: Device, app: App = "default") -> ListedDevice:
        """Return a device that is connected, or within its grace."""
        require_app(request, app)
        with _http_errors():
            return inspection().device(app, device)

    return [explained, cluster, devices, one]


def _given(value: T | None) -> T | msgspec.UnsetType:
    return msgspec.UNSET if value is None else value
