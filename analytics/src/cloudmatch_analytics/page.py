"""The page with the live chart: what is in the folder `web`, as it is, and nothing from elsewhere."""

from importlib.resources import files

from litestar import Response, get
from litestar.types import ControllerRouterHandler

# what there is, by path; uPlot is a copy of the npm package of that name, with its licence beside it
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/web/page.css": ("page.css", "text/css; charset=utf-8"),
    "/web/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/web/uPlot.css": ("vendor/uPlot.min.css", "text/css; charset=utf-8"),
    "/web/uPlot.js": ("vendor/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
}


def handlers() -> list[ControllerRouterHandler]:
    """Make the handlers of all files."""
    return [_handler(path, name, kind) for path, (name, kind) in FILES.items()]


def _handler(path: str, name: str, kind: str) -> ControllerRouterHandler:
    content = files(__package__).joinpath("web", name).read_bytes()

    @get(path, media_type=kind, sync_to_thread=False, include_in_schema=False)
    def give() -> Response[bytes]:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return give
