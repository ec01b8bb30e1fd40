"""match-engine's HTTP interface beside the probes: why a device is not matched, and what there is."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated

from litestar import get
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from cloudmatch_bus.process.http import errors
from cloudmatch_match_engine.core.cluster import ClusterStatus
from cloudmatch_match_engine.core.explain import Explanation
from cloudmatch_match_engine.inspection import Inspection, UnknownDeviceError

App = Annotated[str, QueryParameter(name="app", description="The device's app.")]
Device = Annotated[str, QueryParameter(name="id", description="The device's id.", min_length=1)]
MaybeDevice = Annotated[
    str | None, QueryParameter(name="id", description="Also say where this device is.", min_length=1)
]

ERRORS = errors(
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


def routes(inspection: Callable[[], Inspection]) -> list[ControllerRouterHandler]:
    """Make the routes.

    Args:
        inspection: raises `LookupError` until there is one.
    """

    @get("/match/explain", responses=ERRORS)
    async def explained(device: Device, app: App = "default") -> Explanation:
        """Explain a device's state, and why it is not matched with its nearest neighbours."""
        with _http_errors():
            return await inspection().explain(app, device)

    @get("/cluster", sync_to_thread=False, responses=ERRORS)
    def cluster(device: MaybeDevice = None, app: App = "default") -> ClusterStatus:
        """Return all edges and workers, what is wrong with them, and which edge holds a device."""
        with _http_errors():
            return inspection().cluster(app, device)

    return [explained, cluster]
