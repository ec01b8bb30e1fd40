"""Create or update the server's streams and consumers, and verify that the server holds what was asked."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig, StreamInfo
from nats.js.errors import APIError, BadRequestError, NotFoundError
from prometheus_client import Counter

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.errors import NO_STORAGE, described
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.process.clock import now_us
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_bus.process.settings import variable

log = logging.getLogger("provision")

PAUSE = 0.5  # s between two attempts
WATCH_INTERVAL = 3.0  # s between two looks whether the stream of facts is there
MIB = 2**20

_lost = Counter("cloudmatch_bus_lost_streams", "Times the stream EVENTS was found to be gone")


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
            got = await _add(js, asked)
        except BadRequestError:  # another process was faster
            got = await js.stream_info(asked.name)
            asked.max_bytes = got.config.max_bytes
    if stream_config.differences(asked, got.config):
        asked.first_seq = got.config.first_seq  # else it would begin at 1 when it comes back empty
        try:
            got = await _update(js, asked, got)
        except APIError as error:
            raise ProvisionError(f"stream {asked.name} cannot be changed: {described(error)}") from error
    if wrong := stream_config.differences(asked, got.config):
        raise ProvisionError(f"stream {asked.name} is not as asked: {wrong}")
    return got


async def _add(js: JetStreamContext, asked: StreamConfig) -> StreamInfo:
    """Add a stream; as large as the server can make it if that is less than asked."""
    wanted = asked.max_bytes
    while True:
        try:
            got = await js.add_stream(asked)
        except APIError as error:
            if error.err_code not in NO_STORAGE or (asked.max_bytes or 0) < 2 * streams.EVENTS_MIN_BYTES:
                raise
            assert asked.max_bytes is not None
            asked.max_bytes //= 2
        else:
            _warn_of_size(asked, wanted)
            return got


async def _update(js: JetStreamContext, asked: StreamConfig, got: StreamInfo) -> StreamInfo:
    """Update a stream; leave it as large as it is if the server has no room for more."""
    try:
        return await js.update_stream(asked)
    except APIError as error:
        if error.err_code not in NO_STORAGE:
            raise
    wanted, asked.max_bytes = asked.max_bytes, got.config.max_bytes
    _warn_of_size(asked, wanted)
    return await js.update_stream(asked) if stream_config.differences(asked, got.config) else got


def _warn_of_size(asked: StreamConfig, wanted: int | None) -> None:
    if asked.max_bytes != wanted:
        sizes = (asked.max_bytes or 0) // MIB, (wanted or 0) // MIB
        log.warning("stream %s keeps %d MiB, not %d: NATS has no more storage", asked.name, *sizes)


async def _consumer(js: JetStreamContext, asked: ConsumerConfig) -> None:
    with contextlib.suppress(NotFoundError):
        # where it began does not matter: its service may have made it again, where it was
        existing = (await js.consumer_info(streams.EVENTS, asked.durable_name or "")).config
        asked.deliver_policy, asked.opt_start_seq = existing.deliver_policy, existing.opt_start_seq
    got = (await js.add_consumer(streams.EVENTS, asked)).config
    if wrong := stream_config.differences(asked, got):
        raise ProvisionError(f"consumer {asked.durable_name} is not as asked: {wrong}")


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
        await _consumer(js, stream_config.durable_consumer(durable))
    return facts


async def ensure_provisioned(
    bus: Bus, replicas: int, *, create: bool = True, report: Callable[[str], object] = lambda _: None
) -> StreamInfo:
    """Provision, or with `create` false wait until another process has; retry until JetStream answers.

    Args:
        report: called with the reason while that is not possible.

    Returns:
        The stream of facts, as the server has it.
    """
    said = ""
    while True:
        try:
            return await (provision(bus, replicas) if create else bus.jetstream().stream_info(streams.EVENTS))
        except (nats.errors.Error, TimeoutError) as error:
            if (text := described(error)) != said:
                said = text
                log.warning("JetStream is not ready, retrying: %s", text)
                report(text)
            await asyncio.sleep(PAUSE)


class _Provisioning:
    """Provisions at start, at reconnections, and when the stream of facts is gone."""

    def __init__(self, bus: Bus, settings: NatsSettings) -> None:
        self._bus = bus
        self._settings = settings
        self._problem: str | None = "JetStream is not provisioned"

    def health(self) -> str | None:
        """Return why the bus cannot be used, or None."""
        return self._bus.health() or self._problem

    async def ensure(self) -> StreamInfo:
        """Provision, however long that takes; return the stream of facts."""
        replicas, create = self._settings.replicas, self._settings.provision
        facts = await ensure_provisioned(self._bus, replicas, create=create, report=self._report)
        self._problem = None
        return facts

    def _report(self, text: str) -> None:
        self._problem = f"JetStream is not ready: {text}"

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            try:
                await self._bus.jetstream().stream_info(streams.EVENTS)
            except NotFoundError:
                _lost.inc()
                self._problem = f"the stream {streams.EVENTS} does not exist"
                log.warning("stream %s is gone", streams.EVENTS)
                if await self._mended():
                    log.warning("stream %s is there again, without the facts of before", streams.EVENTS)
            except (nats.errors.Error, TimeoutError):
                continue  # those who read and publish say so
            else:
                if self._problem is not None:
                    await self._mended()

    async def _mended(self) -> bool:
        """Provision; return whether the server now holds what was asked for."""
        try:
            await self.ensure()
        except ProvisionError as error:
            if self._problem != str(error):
                log.error("%s", error)  # noqa: TRY400  # a sentence
            self._problem = str(error)
            return False
        return True


@contextlib.asynccontextmanager
async def connected_bus(
    settings: NatsSettings, role: str, health: Health, stop: asyncio.Event
) -> AsyncIterator[Bus | None]:
    """Connect and provision, however long that takes; close at the end. None if `stop` was set first.

    A connection that is closed for good sets `stop`, so that the process ends instead of lingering.
    """
    health.set_check("nats", lambda: "not connected to NATS")
    bus = await until_stopped(stop, connect(settings, role))
    if bus is None:
        yield None
        return
    bus.on_closed.append(stop.set)
    provisioning = _Provisioning(bus, settings)
    health.set_check("nats", provisioning.health)
    watching: asyncio.Task[None] | None = None
    try:
        facts = await until_stopped(stop, provisioning.ensure())
        if facts:
            _warn_of_single_replica(facts)
        bus.on_reconnect.append(provisioning.ensure)
        watching = asyncio.create_task(provisioning.watch())
        yield bus if facts else None
    finally:
        if watching is not None:
            watching.cancel()
        await bus.close()


def _warn_of_single_replica(stream: StreamInfo) -> None:
    cluster = stream.cluster.name if stream.cluster else None
    if warning := streams.single_replica_warning(cluster, stream.config.num_replicas or 1):
        setting = variable(NatsSettings, "replicas")
        log.warning("%s; %s=3 creates new streams with three replicas", warning, setting)
