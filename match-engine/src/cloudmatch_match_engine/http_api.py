"""match-engine's HTTP interface beside the probes: why a device is not matched."""

from collections.abc import Callable
from typing import Annotated

from litestar import get
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from cloudmatch_match_engine.core.explain import Explanation

App = Annotated[str, QueryParameter(name="app", description="The device's app.")]
Device = Annotated[str, QueryParameter(name="id", description="The device's id.", min_length=1)]


def routes(explain: Callable[[str, str], Explanation | None]) -> list[ControllerRouterHandler]:
    """Make the routes.

    Args:
        explain: of app and device; raises `LookupError` while the mirror is not complete.
    """

    @get("/match/explain", sync_to_thread=False)
    def explained(device: Device, app: App = "default") -> Explanation:
        """Explain a device's state, and why it is not matched with its nearest neighbours."""
        try:
            explanation = explain(app, device)
        except LookupError as error:
            raise ServiceUnavailableException(str(error)) from None
        if explanation is None:
            raise NotFoundException(f"no device '{device}' is connected in app '{app}'")
        return explanation

    return [explained]
