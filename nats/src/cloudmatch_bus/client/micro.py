"""Offer answers as a NATS micro service: found, asked and counted by the usual tools (``nats micro ls``)."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request, ServiceError
from nats.micro.service import EndpointConfig

from cloudmatch_bus.client.connection import Bus

VERSION = "1.0.0"


class EndpointError(Exception):
    """A request cannot be answered. `code` as in HTTP."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Endpoint(NamedTuple):
    """One thing that can be asked. `handler` returns the payload of the answer or raises `EndpointError`."""

    name: str
    subject: str
    handler: Callable[[bytes], bytes]


@asynccontextmanager
async def micro_service(bus: Bus, name: str, description: str, *endpoints: Endpoint) -> AsyncIterator[None]:
    """Answer while this lasts; instances of one name share the requests."""
    service = await add_service(bus.client, name=name, version=VERSION, description=description)
    for endpoint in endpoints:

        async def handle(request: Request, answer: Callable[[bytes], bytes] = endpoint.handler) -> None:
            try:
                await request.respond(answer(request.data))
            except EndpointError as refused:
                raise ServiceError(str(refused.code), str(refused)) from None

        await service.add_endpoint(
            EndpointConfig(name=endpoint.name, subject=endpoint.subject, handler=handle, queue_group=name)
        )
    try:
        yield
    finally:
        with contextlib.suppress(NatsError):  # the bus is away: nobody can ask any more
            await service.stop()
