"""Make the server's streams and consumers what `streams` says, and compare what it gave."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from cloudmatch_bus import streams
from cloudmatch_bus.clock import now_us
from cloudmatch_bus.connection import Bus, connect
from cloudmatch_bus.health import Health
from cloudmatch_bus.service import unless
from cloudmatch_bus.settings import NatsSettings

log = logging.getLogger("provision")


class ProvisionError(RuntimeError):
    """The server keeps a stream or consumer that differs from what was asked and cannot be changed."""


async def _stream(js: JetStreamContext, asked: StreamConfig) -> None:
    assert asked.name is not None
    try:
        got = (await js.stream_info(asked.name)).config
    except NotFoundError:
        # Sequences begin at the clock (µs), so that they grow even over the loss of the whole stream:
        # matches and journal positions are named by them.
        asked.first_seq = now_us()
        try:
            got = (await js.add_stream(asked)).config
        except BadRequestError:  # another process came first
            got = (await js.stream_info(asked.name)).config
    if streams.differences(asked, got):
        try:
            got = (await js.update_stream(asked)).config
        except APIError as error:
            raise ProvisionError(f"stream {asked.name} cannot be changed: {error.description}") from error
    if wrong := streams.differences(asked, got):
        raise ProvisionError(f"stream {asked.name} is not as asked: {wrong}")


async def provision(bus: Bus, replicas: int) -> None:
    """Create or update all streams and consumers; safe to call from every service at any time.

    Raises:
        ProvisionError: the server will not have it so; the message names stream and fields.
    """
    js = bus.jetstream()
    for asked in (streams.events(replicas), streams.bucket(replicas)):
        await _stream(js, asked)
    for durable in streams.READERS:
        want = streams.consumer(durable)
        got = (await js.add_consumer(streams.EVENTS, want)).config
        if wrong := streams.differences(want, got):
            raise ProvisionError(f"consumer {durable} is not as asked: {wrong}")


async def await_events(bus: Bus) -> None:
    """Make sure that the stream of facts is there, without the right to make it.

    Raises:
        TimeoutError, nats.errors.Error: it is not, or JetStream does not answer.
    """
    await bus.jetstream().stream_info(streams.EVENTS)


async def provisioned(bus: Bus, replicas: int, *, ourselves: bool = True) -> bool:
    """Provision `ourselves`, or wait for who does, until JetStream answers (it may elect its leader)."""
    while True:
        try:
            if ourselves:
                await provision(bus, replicas)
            else:
                await await_events(bus)
        except (NatsError, TimeoutError) as error:
            log.warning("JetStream does not answer yet: %r", error)
            await asyncio.sleep(0.5)
        else:
            return True


@contextlib.asynccontextmanager
async def session(
    settings: NatsSettings, name: str, health: Health, stop: asyncio.Event
) -> AsyncIterator[Bus | None]:
    """Connect and provision, however long it takes, and close at the end; None when `stop` came first.

    Sets `stop` if the connection is closed for good, so that the process ends rather than lingers.
    """
    health.check("nats", lambda: "not connected to NATS")
    bus = await unless(stop, connect(settings, name))
    if bus is None:
        yield None
        return
    bus.on_closed.append(stop.set)
    health.check("nats", lambda: "JetStream is not provisioned")

    def ready() -> Coroutine[Any, Any, bool]:
        return provisioned(bus, settings.replicas, ourselves=settings.provision)

    try:
        done = await unless(stop, ready())
        health.check("nats", bus.health)
        bus.on_reconnect.append(ready)
        yield bus if done else None
    finally:
        await bus.close()
