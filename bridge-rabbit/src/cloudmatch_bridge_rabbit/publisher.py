"""Publish sizes to RabbitMQ, over a connection that is kept open."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq import spec
from aiormq.channel import Channel
from prometheus_client import Counter

from cloudmatch_bridge_rabbit import confirms
from cloudmatch_bridge_rabbit.confirms import CONFIRM_TIMEOUT, CONNECT_TIMEOUT, FAILURES
from cloudmatch_bus.client.consumer import DownstreamError
from cloudmatch_bus.contract import amqp
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.process.settings import AmqpSettings

log = logging.getLogger("rabbit")

IN_FLIGHT = 1000  # messages awaiting their confirm, at most
CHECK_INTERVAL = 1.0  # s between two checks whether RabbitMQ blocks the connection
RETRY_INTERVAL = 1.0  # s between two attempts to connect
DECLARE_INTERVAL = 5.0  # s between two declarations of plain queues, which others may delete

_connections = Counter("cloudmatch_bridge_rabbit_connections", "Connections opened to RabbitMQ")
_confirmed = Counter("cloudmatch_bridge_rabbit_confirmed", "Sizes confirmed by RabbitMQ")
_failed = Counter("cloudmatch_bridge_rabbit_failed", "Publications that RabbitMQ did not confirm")


class Publisher:
    """A channel with publisher confirms, reopened whenever it is lost."""

    def __init__(self, settings: AmqpSettings, plain_queues: Sequence[str] = ()) -> None:
        self._settings = settings
        self._plain_queues = plain_queues
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._reason = "not connected to RabbitMQ"
        self._blocked = False  # RabbitMQ accepts no messages: memory or disk alarm
        self._ready = asyncio.Event()  # set by the first connection

    def health(self) -> str | None:
        """Return why RabbitMQ cannot be used, or None."""
        if self._blocked:
            return "RabbitMQ is not accepting messages: memory or disk alarm"
        return None if self._usable() else self._reason

    @property
    def connection(self) -> AbstractConnection | None:
        """The connection, while it is usable and not blocked."""
        return self._connection if self._usable() and not self._blocked else None

    def _usable(self) -> bool:
        return self._channel is not None and not self._channel.is_closed

    async def ready(self) -> bool:
        """Wait for the first connection."""
        return await self._ready.wait()

    async def keep_connected(self, stop: asyncio.Event) -> None:
        """Connect, and reconnect whenever the connection is lost, until `stop`."""
        while not stop.is_set():
            if not self._usable():
                await self._connect()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_INTERVAL)

    async def keep_declared(self, stop: asyncio.Event) -> None:
        """Declare and bind the plain queues again and again until `stop`: a consumer may delete its queue.

        When RabbitMQ refuses, close the connection: connecting again does the same, and readiness gives the
        reason. A timeout is no refusal: RabbitMQ may just have blocked the connection.
        """
        while self._plain_queues and not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), DECLARE_INTERVAL)
            if (connection := self.connection) is not None and not stop.is_set():
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await self._declare_plain(connection)
                except TimeoutError:
                    continue
                except FAILURES as error:
                    log.warning("queues not declared: %r", error)
                    if connection is self._connection:
                        await self.close()

    async def _connect(self) -> None:
        await self.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._connection = await aio_pika.connect(self._settings.address)
                self._channel = await self._declare(self._connection)
        except FAILURES as error:
            reason = f"cannot use RabbitMQ: {error!r}"
            if reason != self._reason:
                log.warning("%s", reason)
            self._reason = reason
            await self.close()
        else:
            self._reason = "connection to RabbitMQ lost"
            self._ready.set()
            _connections.inc()
            log.info("connected to RabbitMQ")

    async def _declare(self, connection: AbstractConnection) -> Channel:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await amqp.declare(channel, self._settings.queue_type)
        await self._declare_plain(connection)
        return await confirms.underlay(channel)

    async def _declare_plain(self, connection: AbstractConnection) -> None:
        for name in self._plain_queues:
            await amqp.declare_plain(connection, name, ChannelNotFoundEntity, amqp.EXCHANGE)

    async def publish(self, sizes: Sequence[SizeMessage]) -> None:
        """Publish all, and wait until RabbitMQ has confirmed all.

        Raises:
            DownstreamError: some or all were not confirmed.
        """
        for start in range(0, len(sizes), IN_FLIGHT):
            await self._publish(sizes[start : start + IN_FLIGHT])

    async def _publish(self, sizes: Sequence[SizeMessage]) -> None:
        if self._channel is None or self._channel.is_closed:
            raise DownstreamError(self._reason)
        channel = self._channel
        tasks = [asyncio.create_task(_send(channel, size)) for size in sizes]
        outcome = await confirms.failures(tasks, self._confirmed(channel, tasks))
        failed = [reason for reason in outcome if reason]
        _confirmed.inc(len(tasks) - len(failed))
        if not failed:
            return
        _failed.inc(len(failed))
        await self.close()  # reconnecting declares whatever may be missing
        raise DownstreamError(f"RabbitMQ did not confirm {len(failed)} sizes: {failed[0]}")

    async def _confirmed(self, channel: Channel, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait until all are done, or until `CONFIRM_TIMEOUT` has passed without RabbitMQ being blocked.

        Messages sent on a blocked connection are neither lost nor confirmed: sending them again would
        duplicate them.
        """
        silent, pending = 0.0, set(tasks)
        try:
            while pending and silent < CONFIRM_TIMEOUT:
                _, pending = await asyncio.wait(pending, timeout=CHECK_INTERVAL)
                self._blocked = bool(pending) and await _is_blocked(channel)
                silent = 0.0 if self._blocked else silent + CHECK_INTERVAL
        finally:
            self._blocked = False

    async def close(self) -> None:
        """Close the connection, if any."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(connection.close(), 1.0)


async def _is_blocked(channel: Channel) -> bool:
    """Whether RabbitMQ has blocked this channel's connection."""
    try:
        await asyncio.wait_for(channel.connection.ready(), 0.01)
    except TimeoutError:
        return True
    return False


async def _send(channel: Channel, size: SizeMessage) -> None:
    message = size.encode()
    properties = spec.Basic.Properties(
        content_type="text/plain",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        timestamp=message.timestamp,
        headers=message.headers,
    )
    await confirms.publish(channel, message.body, message.routing_key, properties)
