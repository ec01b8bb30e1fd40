"""One message per payload, as in 2019, beside the batches: it has a consumer and a connection of its own.

Whatever keeps it from publishing, a slow queue or a bug, does not hold up the batches.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from prometheus_client import Counter, Gauge

from cloudmatch_bridge_rabbit.confirms import CONNECT_TIMEOUT, FAILURES
from cloudmatch_bridge_rabbit.core.frames import Block, blocks
from cloudmatch_bridge_rabbit.core.lag import Lag
from cloudmatch_bridge_rabbit.core.singles import Singles
from cloudmatch_bridge_rabbit.publisher import Publisher
from cloudmatch_bridge_rabbit.set_aside import keep_in
from cloudmatch_bus.client import optional_consumer
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.consumer import DurableConsumer, Held
from cloudmatch_bus.client.durable import DurableState
from cloudmatch_bus.contract import amqp, amqp_set_aside, streams
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_bus.process.settings import AmqpSettings

log = logging.getLogger("singles")

CONSUMER_INTERVAL = 2.0  # s between two looks whether the consumer is gone
DECLARE_INTERVAL = 5.0  # s between two declarations of plain queues, which others may delete
RETRY_INTERVAL = 5.0  # s after a bug

_confirmed = Counter("cloudmatch_bridge_rabbit_singles", "Messages of one payload confirmed by RabbitMQ")
_evened = Counter(
    "cloudmatch_bridge_rabbit_singles_evened", "Spans whose sizes do not fit their totals: published as equal"
)
_dropped = Counter("cloudmatch_bridge_rabbit_singles_dropped", "Spans that AMQP cannot express, or too long")
_pending = Gauge(
    "cloudmatch_bridge_rabbit_singles_pending", "Facts whose payloads are not published one by one yet"
)
_lag = Gauge(
    "cloudmatch_bridge_rabbit_singles_lag_seconds", "Age of the oldest of the facts that are pending"
)


class SinglesBridge:
    """Publishes one message per payload."""

    def __init__(self, settings: AmqpSettings, plain_queues: list[str]) -> None:
        self._queue_type = settings.queue_type
        self._plain_queues = plain_queues
        self._publisher = Publisher(settings, self._declare, _confirmed)
        self._lag = Lag()
        self._state: DurableState | None = None
        _pending.set_function(lambda: self._lag.pending)
        _lag.set_function(lambda: self._lag.age(time.time()))

    def health(self) -> str | None:
        """Return why nothing can be published, or None. It may lag: that is no reason."""
        state = self._state
        return self._publisher.refusal() or (state.problem() if state else "not connected to NATS")

    async def run(self, bus: Bus, stop: asyncio.Event) -> None:
        """Publish until `stop`."""
        self._state = state = DurableState(bus, streams.SINGLES, new=True, on_look=self._observe)
        keep = keep_in(self._publisher, streams.SINGLES)
        consumer = DurableConsumer(bus, streams.SINGLES, report=False, state=state, set_aside=keep)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publisher.keep_connected(stop))
            group.create_task(self._keep_declared(stop))
            group.create_task(state.keep(stop))
            await self._keep_publishing(consumer, stop)
        await self._publisher.close()

    def _observe(self, pending: int) -> None:
        self._lag.observe(pending, time.time())

    async def _keep_publishing(self, consumer: DurableConsumer, stop: asyncio.Event) -> None:
        if not await until_stopped(stop, self._publisher.ready()):
            return
        while not stop.is_set():
            try:
                await consumer.run(self._forward, stop)
            except Exception:
                log.exception("singles failed, again in %.0f s", RETRY_INTERVAL)
                await _pause(stop, RETRY_INTERVAL)

    async def _forward(self, facts: list[Held]) -> None:
        stored = [each.stored for each in facts]
        self._lag.begin(min(stored))
        encoder: Singles | None = None

        def encode(channel: int, _: int) -> Iterator[Block]:
            nonlocal encoder
            encoder = Singles(channel)
            return blocks(encoder.messages((each.position, each.fact) for each in facts))

        await self._publisher.publish(encode)
        self._lag.end(max(stored))
        if encoder is not None:
            _report(encoder)

    async def _declare(self, connection: AbstractConnection) -> None:
        async with connection.channel() as channel:
            await channel.declare_exchange(amqp.EXCHANGE, "topic", durable=True)
            await amqp_set_aside.declare(channel, self._queue_type)
        await self._declare_plain(connection)

    async def _declare_plain(self, connection: AbstractConnection) -> None:
        for name in self._plain_queues:
            await amqp.declare_plain(connection, name, ChannelNotFoundEntity, amqp.EXCHANGE)

    async def _keep_declared(self, stop: asyncio.Event) -> None:
        """Declare and bind the plain queues again and again until `stop`: a consumer may delete its queue.

        When RabbitMQ refuses, close the connection: connecting again does the same, and readiness gives the
        reason. A timeout is no refusal: RabbitMQ may just have blocked the connection.
        """
        while self._plain_queues and not stop.is_set():
            await _pause(stop, DECLARE_INTERVAL)
            if (connection := self._publisher.connection) is not None and not stop.is_set():
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await self._declare_plain(connection)
                except TimeoutError:
                    continue
                except FAILURES as error:
                    log.warning("queues not declared: %r", error)
                    if connection is self._publisher.connection:
                        await self._publisher.close()


async def keep_removed(bus: Bus, stop: asyncio.Event) -> None:
    """Delete the consumer until `stop`: a process with other settings may make it again during a roll-out."""
    while not stop.is_set():
        try:
            if await optional_consumer.remove(bus, streams.SINGLES):
                log.info("consumer %s deleted: singles are off", streams.SINGLES)
        except TimeoutError as error:
            log.warning("%s", error)
        await _pause(stop, CONSUMER_INTERVAL)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _report(encoder: Singles) -> None:
    _evened.inc(encoder.evened)
    _dropped.inc(encoder.dropped)
    if encoder.evened or encoder.dropped:
        log.warning("%d spans published as equal sizes, %d dropped", encoder.evened, encoder.dropped)
