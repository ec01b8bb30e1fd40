"""The connection to RabbitMQ: the only module that knows aio-pika."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.channel import Channel
from prometheus_client import Counter

from cloudmatch_bridge_rabbit.sizes import Size
from cloudmatch_bus import amqp
from cloudmatch_bus.feed import DownstreamError
from cloudmatch_bus.settings import AmqpSettings

log = logging.getLogger("rabbit")
# The driver tells every loss with a traceback; here it is told in a sentence.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

IN_FLIGHT = 1000  # messages that wait for their confirm, at most
PATIENCE = 10.0  # s for the confirms of so many
CONNECTING = 5.0  # s for a connection with all that is declared
PAUSE = 1.0  # s between two attempts

FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError)  # what is raised when the broker is away or refuses

_connections = Counter("cloudmatch_bridge_rabbit_connections", "Connections to RabbitMQ that were made")
_confirmed = Counter("cloudmatch_bridge_rabbit_confirmed", "Sizes that RabbitMQ has confirmed")
_failed = Counter("cloudmatch_bridge_rabbit_failed", "Publications that RabbitMQ did not confirm")


class Rabbit:
    """A channel with publisher confirms, made anew whenever it is lost."""

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._reason = "not connected to RabbitMQ"
        self._ready = asyncio.Event()  # set once there was a connection

    def health(self) -> str | None:
        """Give the reason why RabbitMQ cannot be used, or None."""
        return None if self._usable() else self._reason

    def _usable(self) -> bool:
        return self._channel is not None and not self._channel.is_closed

    async def ready(self) -> bool:
        """Wait for the first connection."""
        return await self._ready.wait()

    async def keep(self, stop: asyncio.Event) -> None:
        """Keep the connection, however often it is lost, until `stop`."""
        while not stop.is_set():
            if not self._usable():
                await self._connect()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)

    async def _connect(self) -> None:
        await self.close()
        try:
            async with asyncio.timeout(CONNECTING):
                self._connection = await aio_pika.connect(self._settings.address)
                self._channel = await self._declare(self._connection)
        except FAILURES as error:
            reason = f"cannot use RabbitMQ: {error!r}"
            if reason != self._reason:
                log.warning("%s", reason)
            self._reason = reason
            await self.close()
        else:
            self._reason = "lost the connection to RabbitMQ"
            self._ready.set()
            _connections.inc()
            log.info("connected to RabbitMQ")

    async def _declare(self, connection: AbstractConnection) -> Channel:
        kind = self._settings.queue_type
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.declare_exchange(amqp.EXCHANGE, "topic", durable=True)
        dead = await channel.declare_exchange(amqp.DEAD_EXCHANGE, "fanout", durable=True)
        queue = await channel.declare_queue(amqp.QUEUE, durable=True, arguments=amqp.queue_arguments(kind))
        await queue.bind(exchange, "#")
        dead_queue = await channel.declare_queue(
            amqp.DEAD_QUEUE, durable=True, arguments={"x-queue-type": kind}
        )
        await dead_queue.bind(dead)
        under = await channel.get_underlay_channel()
        assert isinstance(under, Channel)
        return under

    async def publish(self, sizes: Sequence[Size]) -> None:
        """Publish all and wait until RabbitMQ has confirmed all.

        Raises:
            DownstreamError: some or all were not confirmed.
        """
        for start in range(0, len(sizes), IN_FLIGHT):
            await self._publish(sizes[start : start + IN_FLIGHT])

    async def _publish(self, sizes: Sequence[Size]) -> None:
        if self._channel is None or self._channel.is_closed:
            raise DownstreamError(self._reason)
        channel = self._channel
        tasks = [asyncio.create_task(_send(channel, size)) for size in sizes]
        try:
            await asyncio.wait(tasks, timeout=PATIENCE)
        finally:
            late = [task for task in tasks if task.cancel()]
        failed = [task for task in tasks if task not in late and _failure(task)]
        _confirmed.inc(len(tasks) - len(late) - len(failed))
        if not late and not failed:
            return
        _failed.inc(len(late) + len(failed))
        await self.close()  # the next connection declares anew what may be missing
        why = _failure(failed[0]) if failed else f"nothing within {PATIENCE:.0f} s"
        raise DownstreamError(f"RabbitMQ did not confirm {len(late) + len(failed)} sizes: {why}")

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(connection.close(), 1.0)


async def _send(channel: Channel, size: Size) -> None:
    """Publish one size; return once it is confirmed. Unroutable is a failure."""
    message = aio_pika.Message(
        size.body,
        content_type="text/plain",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=size.message_id,
        timestamp=size.at / 1000,
        headers=dict(size.headers),
    )
    await channel.basic_publish(
        size.body,
        exchange=amqp.EXCHANGE,
        routing_key=size.routing_key,
        properties=message.properties,
        mandatory=True,
        wait=False,  # for the socket, of each message: the confirm is what counts (7,300 → 10,600 a second)
    )


def _failure(task: asyncio.Task[None]) -> str | None:
    """Say why a publication was not confirmed; None when it was.

    Raises:
        Exception: what it raised, when that says nothing about RabbitMQ.
    """
    if task.cancelled():  # its channel was closed
        return "the connection was lost"
    error = task.exception()
    if error is not None and not isinstance(error, FAILURES):
        raise error
    return repr(error) if error else None
