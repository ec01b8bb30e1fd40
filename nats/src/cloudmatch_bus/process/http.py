"""What the HTTP APIs of all services but edges share: probes, metrics, errors, and serving them."""

import asyncio
import contextlib
import functools
import logging
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
import uvicorn
from litestar import Litestar, MediaType, Request, Response, get
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers, State
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
)
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.response.base import ASGIResponse
from litestar.types import ControllerRouterHandler, Method
from litestar.utils import normalize_path

from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process import http_keys
from cloudmatch_bus.process.health import LIVENESS, METRICS, METRICS_TYPE, READINESS, Health, metrics
from cloudmatch_bus.process.http_errors import CODES, Error, error
from cloudmatch_bus.process.http_keys import Keys
from cloudmatch_bus.process.http_protocol import Http
from cloudmatch_bus.process.listen import log_listening
from cloudmatch_bus.process.settings import HttpSettings

log = logging.getLogger("http")

Asking = Request[Any, Any, Any]  # what a handler is asked

FROM_PAGES: tuple[Method, ...] = ("GET", "HEAD")  # methods that pages of other origins may use
AUTHORITY = re.compile(rb"https?://[^/]*", re.IGNORECASE)  # of a target in absolute form
BODY_MAX = 256 * 1024  # bytes of a request's body
JSON_TYPE = re.compile(r"\s*(application/json|[\w.!#$&^+-]+/[\w.!#$&^+-]+\+json)\s*(;.*)?", re.IGNORECASE)


def errors(**descriptions: str) -> dict[int, ResponseSpec]:
    """Describe errors for OpenAPI; `descriptions` by code, as in `CODES`."""
    statuses = {code: status for status, code in CODES.items()}
    return {
        statuses[code]: ResponseSpec(Error, generate_examples=False, description=text)
        for code, text in descriptions.items()
    }


KEYED = errors(  # of guarded handlers
    unauthorized="No key, or an unknown one.", forbidden="The key has not this scope, or is for another app."
)


class NotJsonError(ClientException):
    """The body of the request is not declared as JSON."""

    status_code = 415


def require_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard a handler from bodies that are not declared as JSON.

    Browsers let any page send others, such as ``text/plain``, without asking this server first.

    Raises:
        NotJsonError: the ``Content-Type`` is no type of JSON.
    """
    declared = ", ".join(connection.headers.getall("content-type", []))
    if not JSON_TYPE.fullmatch(declared):
        found = f"not {declared}" if declared else "but there is none"
        raise NotJsonError(f"Content-Type must be application/json, {found}")


def _error(request: Request[Any, Any, Any], failure: Exception) -> Response[Error]:
    if isinstance(failure, UNREADABLE) and request.method not in FROM_PAGES:
        failure = ClientException(f"the body cannot be read: {failure}")
    if not isinstance(failure, HTTPException):
        log.error("request failed", exc_info=failure)
        return Response(error(500, "see the log"), status_code=500)
    detail, headers = failure.detail, dict(failure.headers or {})
    if isinstance(failure.extra, list) and failure.extra:  # validation: name the fields
        detail = "; ".join(
            f"{e.get('key') or 'body'}: {e.get('message')}" if isinstance(e, dict) else str(e)
            for e in failure.extra
        )
    elif isinstance(failure, MethodNotAllowedException):
        headers["allow"] = _methods(headers["allow"].split(", "))
        detail = f"{request.method} is not supported, only {headers['allow']}"
    elif type(failure) is NotFoundException and detail == "Not Found":
        detail = f"nothing at {request.url.path}"
    return Response(error(failure.status_code, detail), status_code=failure.status_code, headers=headers)


def _methods(declared: Iterable[str]) -> str:
    """Return the methods with which a path may be requested."""
    return ", ".join(sorted({*declared, "OPTIONS", *(["HEAD"] if "GET" in declared else [])}))


class Application(Litestar):
    """Litestar, with what HTTP wants of every server: HEAD, OPTIONS, and every form of target."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if found := AUTHORITY.match(scope["raw_path"]):
                path = scope["raw_path"][found.end() :] or b"/"
                scope = {**scope, "raw_path": path, "path": unquote(path.decode())}
            if scope["method"] == "HEAD":
                scope, send = {**scope, "method": "GET"}, _without_body(send)
            elif scope["method"] == "OPTIONS":
                answer = self._options(scope["path"], Headers.from_scope(scope))
                await answer(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _options(self, path: str, headers: Headers) -> ASGIResponse:
        """Say what is allowed at a path, and to a page; `*`, and `/` for load balancers, mean the server."""
        try:
            self.asgi_router.handle_routing(path=normalize_path(path), method="?")  # which none has
        except MethodNotAllowedException as refused:
            allow = _methods((refused.headers or {})["allow"].split(", "))
        except NotFoundException:
            if path not in ("*", "/"):
                return _json(404, f"nothing at {path}")
            allow = _methods(["GET"])
        origin, method = headers.get("origin"), headers.get("access-control-request-method", "GET")
        answer = {"Allow": allow}
        if origin and self.cors_config:
            if not self.cors_config.is_origin_allowed(origin) or method not in FROM_PAGES:
                return _json(400, f"pages of {origin} may not request {method}", answer)
            answer["Access-Control-Allow-Origin"] = origin
            answer["Access-Control-Allow-Methods"] = ", ".join(FROM_PAGES)
            answer["Access-Control-Allow-Headers"] = headers.get("access-control-request-headers", "*")
            answer["Access-Control-Max-Age"] = "600"
            answer["Vary"] = "Origin"
        return ASGIResponse(status_code=204, headers=answer)


def _json(status: int, detail: str, headers: dict[str, str] | None = None) -> ASGIResponse:
    body = msgspec.json.encode(error(status, detail))
    return ASGIResponse(body=body, status_code=status, media_type=MediaType.JSON, headers=headers)


def _without_body(send: Any) -> Any:
    """Pass on the head of an answer, and not its body."""
    ended = False

    async def pass_on(message: dict[str, Any]) -> None:
        nonlocal ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return pass_on


def application(
    title: str,
    health: Health,
    handlers: Sequence[ControllerRouterHandler] = (),
    origins: Sequence[str] = (),
    keys: Keys | None = None,
) -> Litestar:
    """Create an HTTP application with the probes, metrics and OpenAPI that every service serves.

    Args:
        origins: other origins whose pages may read responses to GET.
        keys: of those who may use guarded handlers; None: everybody may.
    """

    @get(LIVENESS, media_type=MediaType.TEXT, sync_to_thread=False, include_in_schema=False)
    def liveness() -> str:
        return "alive"

    @get(READINESS, sync_to_thread=False, include_in_schema=False)
    def readiness() -> Response[bytes]:
        status, body = health.readiness()
        return Response(body, status_code=status, media_type=MediaType.JSON)

    @get(METRICS, sync_to_thread=False, include_in_schema=False)
    def scrape() -> Response[bytes]:
        return Response(metrics(), headers={"content-type": METRICS_TYPE})

    return Application(
        [liveness, readiness, scrape, *handlers],
        exception_handlers={Exception: _error},
        openapi_config=OpenAPIConfig(title=title, version="1"),
        cors_config=CORSConfig(allow_origins=list(origins), allow_methods=list(FROM_PAGES))
        if origins
        else None,
        logging_config=None,
        state=State({http_keys.STATE: keys}),
        request_max_body_size=BODY_MAX,
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Litestar,
    service: str,
    sockets: Sequence[socket.socket],
    stop: asyncio.Event,
    connections: int = HttpSettings().connections,
) -> None:
    """Serve `app` on sockets of `listen` until `stop`; log ``<service> listening at <url>`` for each.

    Args:
        connections: that are served at once.
    """
    protocol: Any = functools.partial(Http, most=connections)
    server = _Server(
        uvicorn.Config(
            app, http=protocol, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=2
        )
    )
    task = asyncio.create_task(server.serve(sockets=list(sockets)))
    for sock in sockets:
        log_listening(service, sock)
    await stop.wait()
    server.should_exit = True
    await task
