"""Plain HTTP of the edge: the dev client, probes, metrics, errors."""

import hashlib
import http
import json
from collections.abc import Container, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from cloudmatch_bus.process.health import LIVENESS, METRICS, METRICS_TYPE, READINESS, Health, metrics
from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.dialects.parameters import BadParameterError

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
METHODS = "GET, HEAD, OPTIONS"
NO_BODY = (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED)  # nor headers that describe one
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


def options(path: str, known: Container[str]) -> Page:
    """Answer OPTIONS; a browser asks so before a request with headers of its own, a load balancer as a check.

    Args:
        known: paths other than those of every service.
    """
    if path not in known and path not in ("*", LIVENESS, READINESS, METRICS):
        return error(404, "not_found", f"nothing at {path}")
    return Page(
        204,
        "",
        b"",
        (
            ("Allow", METHODS),
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", "Authorization, *"),  # * does not include Authorization
            ("Access-Control-Max-Age", "600"),
        ),
    )


def redirect(location: str) -> Page:
    """Make a redirect for good, to a path."""
    return Page(308, TEXT, b"", (("Location", location), ("Cache-Control", "no-cache")))


def error(status: int, code: str, detail: str, **more: str) -> Page:
    """Make an error, in the shape of all errors."""
    return Page(status, JSON, json.dumps({"error": {"code": code, "detail": detail, **more}}).encode())


def method_not_allowed(method: str) -> Page:
    """Make the error of a request with another method than `METHODS`."""
    refused = error(405, "method_not_allowed", f"{method} is not supported, only {METHODS}")
    return refused._replace(headers=(("Allow", METHODS),))


def upgrade_required(detail: str) -> Page:
    """Make the error of a request for a device's connection that is not, or no longer, a WebSocket's."""
    headers = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    hint = "a proxy on the way must pass on Upgrade and Connection, by HTTP/1.1"
    return error(426, "upgrade_required", f"connect by WebSocket: {detail}; {hint}")._replace(headers=headers)


def forbidden_origin(origin: str, setting: str) -> Page:
    """Make the error of a page that may not connect devices."""
    return error(403, "forbidden_origin", f"pages of {origin} may not connect devices: see {setting}")


def unavailable(code: str, detail: str, retry_after: float, status: int = 503) -> Page:
    """Make the error of a connection that may succeed in `retry_after` seconds."""
    headers = (("Retry-After", str(ceil(retry_after))), ("Access-Control-Expose-Headers", "Retry-After"))
    return error(status, code, detail)._replace(headers=headers)


def too_many(code: str, detail: str, retry_after: float) -> Page:
    """Make the error of a device beyond a quota, which may connect in `retry_after` seconds."""
    return unavailable(code, detail, retry_after, http.HTTPStatus.TOO_MANY_REQUESTS)


def denied(why: DeniedError, retry_after: float) -> Page:
    """Make the error of a device that may not come in."""
    if why.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return unavailable(why.code, why.detail, retry_after)
    more = {"reason": why.reason, "parameter": why.parameter}
    page = error(why.status, why.code, why.detail, **{name: text for name, text in more.items() if text})
    if why.status != http.HTTPStatus.UNAUTHORIZED:
        return page
    return page._replace(headers=(("WWW-Authenticate", 'Bearer error="invalid_token"'),))


def bad_parameter(bad: BadParameterError) -> Page:
    """Make the error of a connection with an invalid parameter."""
    return error(400, "bad_parameter", f"{bad.parameter} {bad.detail}", parameter=bad.parameter)


def serialize(page: Page, *, with_body: bool = True) -> bytes:
    """Return the bytes of an answer, after which the connection is closed."""
    headers = {
        "Connection": "close, Upgrade" if page.status == http.HTTPStatus.UPGRADE_REQUIRED else "close",
        "X-Content-Type-Options": "nosniff",
        # Nothing here is secret, and a page opened from disk must be able to read why it was refused.
        "Access-Control-Allow-Origin": "*",
        "Cache-Control": "no-store",
        **dict(page.headers),
    }
    if page.status not in NO_BODY:
        headers |= {"Content-Type": page.media_type, "Content-Length": str(len(page.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {page.status} {http.HTTPStatus(page.status).phrase}\r\n{lines}\r\n".encode("latin-1")
    return head + page.body if with_body else head
