"""What the HTTP APIs of all services but edges share: probes, metrics, errors, and serving them."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
from litestar import Litestar, MediaType, Request, Response, get
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler

from cloudmatch_bus.process.health import LIVENESS, METRICS, METRICS_TYPE, READINESS, Health, metrics
from cloudmatch_bus.process.listen import log_listening

log = logging.getLogger("http")


CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


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
    return Response({"error": {"code": code, "detail": detail}}, status_code=error.status_code)


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
        return Response(metrics(), media_type=METRICS_TYPE)

    return Litestar(
        [liveness, readiness, scrape, *handlers],
        exception_handlers={Exception: _error},
        openapi_config=OpenAPIConfig(title=title, version="1"),
        cors_config=CORSConfig(allow_origins=list(origins), allow_methods=["GET"]) if origins else None,
        logging_config=None,
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: Litestar, service: str, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serve `app` on a socket of `listen` until `stop`; log ``<service> listening at <url>`` at start."""
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    log_listening(service, sock)
    await stop.wait()
    server.should_exit = True
    await task
