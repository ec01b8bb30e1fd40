"""NATS micro services: found, called and counted with the usual tools (``nats micro ls``)."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import nats.errors
from nats.micro import add_service
from nats.micro.request import Request, ServiceError
from nats.micro.service import EndpointConfig

from cloudmatch_bus.client.connection import Bus

VERSION = "1.0.0"


class EndpointError(Exception):
    """A request cannot be served; `code` as in HTTP."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Endpoint(NamedTuple):
    """One kind of request. `handler` returns the payload of the reply or raises `EndpointError`."""

    name: str
    subject: str
    handler: Callable[[bytes], Awaitable[bytes]]

    async def handle(self, request: Request) -> None:
        """Reply to a request."""
        try:
            await request.respond(await self.handler(request.data))
        except EndpointError as error:
            raise ServiceError(str(error.code), str(error)) from None


@asynccontextmanager
async def micro_service(bus: Bus, name: str, description: str, *endpoints: Endpoint) -> AsyncIterator[None]:
    """Serve requests within this context; instances of one name share them."""
    service = await add_service(bus.client, name=name, version=VERSION, description=description)
    for each in endpoints:
        await service.add_endpoint(
            EndpointConfig(name=each.name, subject=each.subject, handler=each.handle, queue_group=name)
        )
    try:
        yield
    finally:
        with contextlib.suppress(nats.errors.Error):  # not connected: no request can arrive
            await service.stop()
