"""Create or update the server's streams and consumers, and verify that the server holds what was asked."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, BadRequestError, NotFoundError

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.process.clock import now_us
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_bus.process.settings import variable

log = logging.getLogger("provision")

PAUSE = 0.5  # s between two attempts


class ProvisionError(RuntimeError):
    """A stream or consumer on the server differs from what was asked and cannot be changed."""


async def _stream(js: JetStreamContext, asked: StreamConfig) -> StreamInfo:
    assert asked.name is not None
    try:
        got = await js.stream_info(asked.name)
    except NotFoundError:
        # Sequences begin at the clock (µs), so that they grow even if the whole stream is lost: matches and
        # positions in the journal are named by them.
        asked.first_seq = now_us()
        try:
            got = await js.add_stream(asked)
        except BadRequestError:  # another process was faster
            got = await js.stream_info(asked.name)
    if stream_config.differences(asked, got.config):
        asked.first_seq = got.config.first_seq  # else it would begin at 1 when it comes back empty
        try:
            got = await js.update_stream(asked)
        except APIError as error:
            raise ProvisionError(f"stream {asked.name} cannot be changed: {error.description}") from error
    if wrong := stream_config.differences(asked, got.config):
        raise ProvisionError(f"stream {asked.name} is not as asked: {wrong}")
    return got


async def provision(bus: Bus, replicas: int) -> StreamInfo:
    """Create or update all streams and consumers. Any service may do so at any time.

    Returns:
        The stream of facts, as the server has it.

    Raises:
        ProvisionError: the server has something else; the message names stream and fields.
    """
    js = bus.jetstream()
    facts = await _stream(js, stream_config.events(replicas))
    await _stream(js, stream_config.bucket(replicas))
    for durable in streams.DURABLE_CONSUMERS:
        asked = stream_config.durable_consumer(durable)
        got = (await js.add_consumer(streams.EVENTS, asked)).config
        if wrong := stream_config.differences(asked, got):
            raise ProvisionError(f"consumer {durable} is not as asked: {wrong}")
    return facts


async def ensure_provisioned(bus: Bus, replicas: int, *, create: bool = True) -> StreamInfo:
    """Provision, or with `create` false wait until another process has; retry until JetStream answers.

    Returns:
        The stream of facts, as the server has it.
    """
    while True:
        try:
            return await (provision(bus, replicas) if create else bus.jetstream().stream_info(streams.EVENTS))
        except (nats.errors.Error, TimeoutError) as error:
            log.warning("JetStream is not ready, retrying: %r", error)
            await asyncio.sleep(PAUSE)


@contextlib.asynccontextmanager
async def connected_bus(
    settings: NatsSettings, name: str, health: Health, stop: asyncio.Event
) -> AsyncIterator[Bus | None]:
    """Connect and provision, however long that takes; close at the end. None if `stop` was set first.

    A connection that is closed for good sets `stop`, so that the process ends instead of lingering.
    """
    health.set_check("nats", lambda: "not connected to NATS")
    bus = await until_stopped(stop, connect(settings, name))
    if bus is None:
        yield None
        return
    bus.on_closed.append(stop.set)
    health.set_check("nats", lambda: "JetStream is not provisioned")

    def ensure() -> Coroutine[Any, Any, StreamInfo]:
        return ensure_provisioned(bus, settings.replicas, create=settings.provision)

    try:
        facts = await until_stopped(stop, ensure())
        if facts:
            _warn_of_single_replica(facts)
        health.set_check("nats", bus.health)
        bus.on_reconnect.append(ensure)
        yield bus if facts else None
    finally:
        await bus.close()


def _warn_of_single_replica(stream: StreamInfo) -> None:
    cluster = stream.cluster.name if stream.cluster else None
    if warning := streams.single_replica_warning(cluster, stream.config.num_replicas or 1):
        setting = variable(NatsSettings, "replicas")
        log.warning("%s; %s=3 creates new streams with three replicas", warning, setting)
