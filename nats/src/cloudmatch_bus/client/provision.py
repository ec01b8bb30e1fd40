"""Make the server's streams and consumers what `streams` says, and compare what it gave."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, BadRequestError, NotFoundError

from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.process.clock import now_us
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_bus.process.settings import variable

log = logging.getLogger("provision")


class ProvisionError(RuntimeError):
    """The server keeps a stream or consumer that differs from what was asked and cannot be changed."""


async def _stream(js: JetStreamContext, asked: StreamConfig) -> StreamInfo:
    assert asked.name is not None
    try:
        got = await js.stream_info(asked.name)
    except NotFoundError:
        # Sequences begin at the clock (µs), so that they grow even over the loss of the whole stream:
        # matches and journal positions are named by them.
        asked.first_seq = now_us()
        try:
            got = await js.add_stream(asked)
        except BadRequestError:  # another process came first
            got = await js.stream_info(asked.name)
    if streams.differences(asked, got.config):
        asked.first_seq = got.config.first_seq  # else it would begin at 1 when it comes back empty
        try:
            got = await js.update_stream(asked)
        except APIError as error:
            raise ProvisionError(f"stream {asked.name} cannot be changed: {error.description}") from error
    if wrong := streams.differences(asked, got.config):
        raise ProvisionError(f"stream {asked.name} is not as asked: {wrong}")
    return got


async def provision(bus: Bus, replicas: int) -> StreamInfo:
    """Create or update all streams and consumers; safe to call from every service at any time.

    Returns:
        How the server keeps the stream of facts.

    Raises:
        ProvisionError: the server will not have it so; the message names stream and fields.
    """
    js = bus.jetstream()
    kept = await _stream(js, streams.events(replicas))
    await _stream(js, streams.bucket(replicas))
    for durable in streams.DURABLE_CONSUMERS:
        want = streams.consumer(durable)
        got = (await js.add_consumer(streams.EVENTS, want)).config
        if wrong := streams.differences(want, got):
            raise ProvisionError(f"consumer {durable} is not as asked: {wrong}")
    return kept


async def events_info(bus: Bus) -> StreamInfo:
    """Make sure that the stream of facts is there, without the right to make it; give how it is kept.

    Raises:
        TimeoutError, nats.errors.Error: it is not, or JetStream does not answer.
    """
    return await bus.jetstream().stream_info(streams.EVENTS)


async def ensure_provisioned(bus: Bus, replicas: int, *, create: bool = True) -> StreamInfo:
    """Provision, or with `create` false wait until another process has; retry until JetStream answers.

    Returns:
        How the server keeps the stream of facts.
    """
    while True:
        try:
            return await (provision(bus, replicas) if create else events_info(bus))
        except (NatsError, TimeoutError) as error:
            log.warning("JetStream does not answer yet: %r", error)
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def connected_bus(
    settings: NatsSettings, name: str, health: Health, stop: asyncio.Event
) -> AsyncIterator[Bus | None]:
    """Connect and provision, however long it takes, and close at the end; None when `stop` came first.

    Sets `stop` if the connection is closed for good, so that the process ends rather than lingers.
    """
    health.set_check("nats", lambda: "not connected to NATS")
    bus = await until_stopped(stop, connect(settings, name))
    if bus is None:
        yield None
        return
    bus.on_closed.append(stop.set)
    health.set_check("nats", lambda: "JetStream is not provisioned")

    def ready() -> Coroutine[Any, Any, StreamInfo]:
        return ensure_provisioned(bus, settings.replicas, create=settings.provision)

    try:
        kept = await until_stopped(stop, ready())
        if kept and (risk := streams.risk(kept)):
            log.warning("%s; %s=3 makes new ones with three copies", risk, variable(NatsSettings, "replicas"))
        health.set_check("nats", bus.health)
        bus.on_reconnect.append(ready)
        yield bus if kept else None
    finally:
        await bus.close()
