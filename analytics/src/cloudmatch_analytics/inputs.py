"""The queues of RabbitMQ that the source consumes: how they are declared, watched, and read."""

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp import encode

from cloudmatch_analytics.core.watermark import WatermarkClock
from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.amqp_tolerance import encodable

LOOK_TIMEOUT = 5.0  # s for an answer, after which the session counts as lost
STALLED = 5.0  # s without a delivery from a queue that has messages
STALLED_FOR_GOOD = 10.0  # s of that after which the session counts as lost
QUEUE_TYPE = "x-queue-type"

log = logging.getLogger("source")


class SessionLostError(ConnectionError):
    """RabbitMQ is there, but delivers nothing any more over this session; the text gives the reason."""


def is_own(queue: str) -> bool:
    """Whether a queue is ours, and no plain one."""
    return queue in (amqp_batches.QUEUE, amqp_forgotten.QUEUE, amqp.QUEUE)


class Input:
    """A queue, consumed over one channel together with others."""

    def __init__(self, queue: str, arrived: "asyncio.Queue[Arrival]", now: int) -> None:
        self.queue = queue
        self.own = is_own(queue)
        self.batches = queue == amqp_batches.QUEUE  # whether its messages are batches
        self.forgets = queue == amqp_forgotten.QUEUE  # whether they name devices to forget
        self.clock = WatermarkClock(now)
        self.problem: str | None = None  # why it does not deliver
        self._arrived = arrived
        self._warned = False
        self._delivered = False  # since the last look
        self._stalled_at: float | None = None  # since then it has messages, and delivers none

    async def receive(self, message: DeliveredMessage) -> None:
        """Take a message from the driver."""
        self._delivered = True
        self.clock.arrive()
        self._arrived.put_nowait(Arrival(self, message))

    async def look(self, channel: Channel, now: int) -> None:
        """Ask RabbitMQ how many messages it holds back: it must answer, and deliver them.

        Raises:
            SessionLostError: it holds some back, but has delivered none for long.
        """
        answer = await channel.queue_declare(self.queue, passive=True, timeout=LOOK_TIMEOUT)
        messages = answer.message_count or 0
        self.clock.look(messages, now)
        stalled, self._delivered = messages > 0 and not self._delivered, False
        self._stalled_at = (self._stalled_at or time.monotonic()) if stalled else None
        silent = time.monotonic() - self._stalled_at if self._stalled_at else 0.0
        reason = f"queue {self.queue} has {messages} messages, and delivers none"
        self.problem = reason if silent > STALLED else None
        if silent > STALLED_FOR_GOOD:
            raise SessionLostError(reason)

    def is_copy(self, message: DeliveredMessage) -> bool:
        """Whether another queue of ours has the size, too.

        `amqp.QUEUE` gets all that is published to the exchange, `amqp_batches.QUEUE` all that is batched.
        """
        if self.batches or self.forgets:
            return False
        if self.own:
            return amqp.BATCHED in (message.header.properties.headers or {})
        if message.exchange != amqp.EXCHANGE:
            return False
        if not self._warned:
            self._warned = True
            log.warning(
                "queue %s gets what bridge-rabbit publishes, which is counted already: name no queue in both "
                "CLOUDMATCH_ANALYTICS_INPUT_QUEUES and CLOUDMATCH_BRIDGE_RABBIT_QUEUES",
                self.queue,
            )
        return True


class Arrival(NamedTuple):
    """A message, and where it comes from."""

    origin: Input
    message: DeliveredMessage


class Declaring:
    """Declares each queue as it exists, if it is of the other type: an operator has changed it meanwhile.

    RabbitMQ closes the channel of what it refuses, so each queue has one of its own.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def declare_exchange(self, name: str, kind: str, /, *, durable: bool) -> object:
        """Create an exchange unless it exists."""
        channel = await self._connection.channel()
        return await channel.declare_exchange(name, aio_pika.ExchangeType(kind), durable=durable)

    async def declare_queue(
        self, name: str, /, *, durable: bool, passive: bool = False, arguments: dict[str, Any] | None = None
    ) -> AbstractQueue:
        """Create a queue unless it exists."""
        wanted = (arguments or {}).get(QUEUE_TYPE)
        channel = await self._connection.channel()
        try:
            return await channel.declare_queue(name, durable=durable, passive=passive, arguments=arguments)
        except ChannelPreconditionFailed as error:
            if QUEUE_TYPE not in str(error):
                raise
            other = "classic" if wanted == "quorum" else "quorum"
            channel = await self._connection.channel()
            found = await channel.declare_queue(
                name, durable=durable, passive=passive, arguments={**(arguments or {}), QUEUE_TYPE: other}
            )
            log.warning("queue %s is %s, not %s: consumed as it is", name, other, wanted)
            return found


async def declare(connection: AbstractConnection, queue_type: str, plain: Iterable[str]) -> None:
    """Declare our queues, and the plain ones."""
    await amqp_batches.declare(Declaring(connection), queue_type)
    await amqp_forgotten.declare(Declaring(connection), queue_type)
    await amqp.declare(Declaring(connection), queue_type)
    for queue in plain:
        await amqp.declare_plain(connection, queue, ChannelNotFoundEntity)


def decode_size(message: DeliveredMessage) -> SizeMessage:
    """Decode a message that is one size.

    Raises:
        UnreadableError: it is none.
    """
    of = message.header.properties
    return SizeMessage.decode(message.body, of.headers or {}, of.message_id, of.timestamp)


async def publish_dead(channel: Channel, queue: str, message: DeliveredMessage) -> None:
    """Publish a message of a plain queue as a dead letter; return once RabbitMQ has confirmed.

    What would let it expire, or have it refused, is left out: expiration, user id, transience. The driver
    adds a message id if there is none.
    """
    of = message.header.properties
    exchange, key = message.exchange or "", message.routing_key or ""
    headers = amqp.dead_letter_headers(of.headers or {}, queue, exchange, key, datetime.now(UTC))
    properties = spec.Basic.Properties(
        content_type=of.content_type,
        content_encoding=of.content_encoding,
        headers=encodable(headers, encode.field_table),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        priority=of.priority,
        correlation_id=of.correlation_id,
        reply_to=of.reply_to,
        message_id=of.message_id,
        timestamp=of.timestamp,
        message_type=of.message_type,
        app_id=of.app_id,
    )
    await channel.basic_publish(
        message.body,
        exchange=amqp.DEAD_EXCHANGE,
        routing_key=key,
        properties=properties,
        mandatory=True,
    )
