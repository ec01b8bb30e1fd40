"""The page with the live chart: what is in the folder `web`, as it is, and nothing from elsewhere."""

from importlib.resources import files
from pathlib import PurePosixPath

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

# what is served; uPlot is a copy from the npm package of that name, with its licence beside it
FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "vendor/uPlot.min.css": "text/css; charset=utf-8",
    "vendor/uPlot.iife.min.js": "text/javascript; charset=utf-8",
}


def handlers() -> list[ControllerRouterHandler]:
    """Make the handlers of the page and of all that it needs."""
    folder = files(__package__).joinpath("web")
    contents = {name: folder.joinpath(name).read_bytes() for name in FILES}

    def give(name: str) -> Response[bytes]:
        if name not in contents:
            raise NotFoundException(f"there is no {name}")
        return Response(contents[name], media_type=FILES[name], headers={"Cache-Control": "no-cache"})

    @get("/", sync_to_thread=False, include_in_schema=False)
    def page() -> Response[bytes]:
        return give("index.html")

    @get("/web/{name:path}", sync_to_thread=False, include_in_schema=False)
    def part(name: FromPath[PurePosixPath]) -> Response[bytes]:
        return give(str(name).removeprefix("/"))

    return [page, part]
