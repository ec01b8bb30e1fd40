"""Plain HTTP of the edge: the dev client, probes, metrics, errors."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from cloudmatch_bus.process.health import LIVENESS, METRICS, METRICS_TYPE, READINESS, Health, metrics
from cloudmatch_edge.dialects.parameters import BadParameterError

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# Folders of the page: in the package, or in a checkout.
PACKAGE = Path(__file__).parents[1]
WEB = (PACKAGE / "web", PACKAGE.parents[1] / "dev-client/web")
SDK = (PACKAGE / "web/cloudmatch.js", PACKAGE.parents[1] / "clients/javascript/cloudmatch.js")


class Page(NamedTuple):
    """An HTTP answer."""

    status: int
    media_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def dev_client(
    name: str, services: Mapping[str, Sequence[str]], ports: Sequence[int] = ()
) -> dict[str, Page]:
    """Read the dev client; return its parts by path.

    Among them are the JavaScript client, ``/cloudmatch.js``, and ``/services.json``: the name of this edge,
    its ports, and the URLs of all services.

    Raises:
        FileNotFoundError: it is neither in the package nor in a checkout.
    """
    folder, sdk = _first(WEB), _first(SDK)
    origins = {_origin(url) for urls in services.values() for url in urls}
    settings = json.dumps({"edge": name, "ports": ports, "services": services}).encode()
    parts = {f"/web/{file.name}": _part(file) for file in folder.iterdir() if file.suffix in TYPES}
    index = parts.pop("/web/index.html")
    return {
        **parts,
        "/": index._replace(headers=(*index.headers, ("Content-Security-Policy", _policy(origins)))),
        "/cloudmatch.js": _part(sdk),
        "/services.json": Page(200, JSON, settings, (("Cache-Control", "no-store"),)),
    }


def _first(places: Sequence[Path]) -> Path:
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(places[0])


def _part(file: Path) -> Page:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return Page(200, TYPES[file.suffix], body, (("Cache-Control", "no-cache"), ("ETag", etag)))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _policy(origins: set[str]) -> str:
    """The page may run its own files only, connect to any edge, and read these origins."""
    return "; ".join(
        (
            *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:"),
            " ".join(("connect-src 'self' ws: wss:", *sorted(origins))),
            *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
        )
    )


def answer(path: str, health: Health, client: Mapping[str, Page], known: str = "") -> Page:
    """Answer a GET of `path`, other than a device's.

    Args:
        client: the parts of the dev client.
        known: ETags that the browser has cached (If-None-Match).
    """
    if part := client.get(path):
        etag = dict(part.headers).get("ETag")
        return part if etag is None or etag not in known else part._replace(status=304, body=b"")
    if path == LIVENESS:
        return Page(200, TEXT, b"alive")
    if path == READINESS:
        status, body = health.readiness()
        return Page(status, JSON, body)
    if path == METRICS:
        return Page(200, METRICS_TYPE, metrics())
    return error(404, "not_found", f"nothing at {path}")


def error(status: int, code: str, detail: str, **more: str) -> Page:
    """Make an error, in the shape of all errors."""
    return Page(status, JSON, json.dumps({"error": {"code": code, "detail": detail, **more}}).encode())


def unavailable(code: str, detail: str, retry_after: int) -> Page:
    """Make the error of a connection that may succeed in `retry_after` seconds."""
    headers = (
        ("Retry-After", str(retry_after)),
        ("Access-Control-Expose-Headers", "Retry-After"),
        ("Cache-Control", "no-store"),
    )
    return error(503, code, detail)._replace(headers=headers)


def bad_parameter(bad: BadParameterError) -> Page:
    """Make the error of a connection with an invalid parameter."""
    return error(400, "bad_parameter", f"{bad.parameter} {bad.detail}", parameter=bad.parameter)
