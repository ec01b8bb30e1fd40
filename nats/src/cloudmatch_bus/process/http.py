"""What the HTTP APIs of all services but edges share: probes, metrics, errors, and serving them."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import h11
import msgspec
import uvicorn
from litestar import Litestar, MediaType, Request, Response, get
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import ClientException, HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.types import ControllerRouterHandler
from uvicorn.protocols.http.h11_impl import H11Protocol

from cloudmatch_bus.process.health import LIVENESS, METRICS, METRICS_TYPE, READINESS, Health, metrics
from cloudmatch_bus.process.listen import log_listening

log = logging.getLogger("http")

REQUEST_TIMEOUT = 5.0  # s for a request to arrive, body and all


CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    503: "unavailable",
}
JSON_TYPE = re.compile(r"\s*(application/json|[\w.!#$&^+-]+/[\w.!#$&^+-]+\+json)\s*(;.*)?", re.IGNORECASE)


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong."""

    code: str
    detail: str


class Error(msgspec.Struct, frozen=True):
    """The answer to a request that failed."""

    error: ErrorDetail


def errors(**descriptions: str) -> dict[int, ResponseSpec]:
    """Describe errors for OpenAPI; `descriptions` by code, as in `CODES`."""
    statuses = {code: status for status, code in CODES.items()}
    return {
        statuses[code]: ResponseSpec(Error, generate_examples=False, description=text)
        for code, text in descriptions.items()
    }


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


def _error(_: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    if not isinstance(error, HTTPException):
        log.error("request failed", exc_info=error)
        return Response({"error": {"code": "internal", "detail": "see the log"}}, status_code=500)
    detail = error.detail
    if isinstance(error.extra, list) and error.extra:  # validation: name the fields
        detail = "; ".join(
            f"{e.get('key') or 'body'}: {e.get('message')}" if isinstance(e, dict) else str(e)
            for e in error.extra
        )
    code = CODES.get(error.status_code, "error")
    return Response(
        {"error": {"code": code, "detail": detail}}, status_code=error.status_code, headers=error.headers
    )


def application(
    title: str,
    health: Health,
    handlers: Sequence[ControllerRouterHandler] = (),
    origins: Sequence[str] = (),
) -> Litestar:
    """Create an HTTP application with the probes, metrics and OpenAPI that every service serves.

    Args:
        origins: other origins whose pages may read responses to GET.
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

    return Litestar(
        [liveness, readiness, scrape, *handlers],
        exception_handlers={Exception: _error},
        openapi_config=OpenAPIConfig(title=title, version="1"),
        cors_config=CORSConfig(allow_origins=list(origins), allow_methods=["GET"]) if origins else None,
        logging_config=None,
    )


class _Connection(H11Protocol):
    """uvicorn's connection, which waits for ever; here each request must arrive within seconds, and whole."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def _expect_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT, self._expire)

    def _expire(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: Litestar, service: str, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Serve `app` on sockets of `listen` until `stop`; log ``<service> listening at <url>`` for each."""
    config = uvicorn.Config(
        app, http=_Connection, log_config=None, access_log=False, timeout_graceful_shutdown=2
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=list(sockets)))
    for sock in sockets:
        log_listening(service, sock)
    await stop.wait()
    server.should_exit = True
    await task
