"""Collect what is published to RabbitMQ, and the consumer and producer of 2019."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq import spec
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from cloudmatch_bus.contract import amqp, amqp_batches
from cloudmatch_bus.contract.messages import DeliveriesCounted, decode_fact

OLD_QUEUE = "testqueue"  # of 2019
CHECKPOINT = 0.1  # s between two checkpoints of the consumer of 2019


@asynccontextmanager
async def arriving(amqp_url: str) -> AsyncIterator[list[AbstractIncomingMessage]]:
    """Consume the queue of batches into the list that is yielded."""
    async with _consuming(amqp_url) as (channel, messages, collect):
        queue = await channel.get_queue(amqp_batches.QUEUE)
        await queue.consume(collect)
        yield messages


@asynccontextmanager
async def arriving_singles(amqp_url: str) -> AsyncIterator[list[AbstractIncomingMessage]]:
    """Consume what is published to the exchange of single sizes into the list that is yielded."""
    async with _consuming(amqp_url) as (channel, messages, collect):
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(amqp.EXCHANGE, "#")
        await queue.consume(collect)
        yield messages


def sizes(messages: Sequence[AbstractIncomingMessage]) -> list[int]:
    """Return the sizes in batches, each batch once."""
    bodies = {str(message.message_id): message.body for message in messages}
    facts = [decode_fact(body) for body in bodies.values()]
    return [
        size
        for fact in facts
        if isinstance(fact, DeliveriesCounted)
        for s in fact.spans
        for size in s.each_size()
    ]


Collect = Callable[[AbstractIncomingMessage], Awaitable[None]]


@asynccontextmanager
async def _consuming(
    url: str,
) -> AsyncIterator[tuple[AbstractChannel, list[AbstractIncomingMessage], Collect]]:
    messages: list[AbstractIncomingMessage] = []

    async def collect(message: AbstractIncomingMessage) -> None:
        messages.append(message)
        await message.ack()

    async with await aio_pika.connect(url) as connection:
        yield await connection.channel(), messages, collect


async def declare_as_in_2019(channel: AbstractChannel, name: str = OLD_QUEUE) -> None:
    """Declare a queue with the arguments of 2019; fail if it has others."""
    below = await channel.get_underlay_channel()
    await below.queue_declare(name, durable=True, exclusive=False, auto_delete=False, arguments=None)


class OldConsumer:
    """The consumer of 2019, as strict as Flink's RMQSource with correlation ids and checkpoints.

    It declares the queue itself, fails at a message without a correlation id, drops those whose id it has
    seen, and acknowledges in a transaction, at checkpoints. What it has seen survives its connections.
    """

    def __init__(self, url: str, name: str = OLD_QUEUE) -> None:
        self._url, self._name = url, name
        self._unacknowledged: list[AbstractIncomingMessage] = []
        self._connection: aio_pika.abc.AbstractConnection
        self._channel: AbstractChannel
        self.seen: dict[str, int] = {}  # size by correlation id
        self.dropped = 0
        self.error: str | None = None

    @property
    def total(self) -> int:
        """The sum of all sizes."""
        return sum(self.seen.values())

    async def connect(self) -> None:
        """Declare the queue and consume it."""
        self._unacknowledged = []
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel(publisher_confirms=False)
        await declare_as_in_2019(self._channel, self._name)
        below = await self._channel.get_underlay_channel()
        await below.tx_select()
        queue = await self._channel.get_queue(self._name, ensure=False)
        await queue.consume(self._receive)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        if message.correlation_id is None:
            self.error = "a message has no correlation id"
            await self.close()
        elif message.correlation_id in self.seen:
            self.dropped += 1
            self._unacknowledged.append(message)
        else:
            self.seen[message.correlation_id] = int(message.body)
            self._unacknowledged.append(message)

    async def checkpoint(self) -> None:
        """Acknowledge what has arrived."""
        messages, self._unacknowledged = self._unacknowledged, []
        below = await self._channel.get_underlay_channel()
        for message in messages:
            await message.ack()
        await below.tx_commit()

    async def checkpoints(self) -> None:
        """Take checkpoints for ever."""
        while True:
            await asyncio.sleep(CHECKPOINT)
            await self.checkpoint()

    async def close(self) -> None:
        """Close the connection; what is not acknowledged will be redelivered."""
        await self._connection.close()


@asynccontextmanager
async def old_consumer(url: str, name: str = OLD_QUEUE) -> AsyncIterator[OldConsumer]:
    """Run the consumer of 2019."""
    consumer = OldConsumer(url, name)
    await consumer.connect()
    work = asyncio.create_task(consumer.checkpoints())
    try:
        yield consumer
        assert consumer.error is None, consumer.error
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await consumer.close()


class OldProducer:
    """The producer of 2019: bodies on the default exchange, without properties."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name
        self.total = 0  # bytes
        self.count = 0

    async def size(self, amount: int) -> None:
        """Publish a size."""
        self.total += amount
        self.count += 1
        await self.body(b"%d" % amount)

    async def body(self, body: bytes, **properties: Any) -> None:
        """Publish any body; the driver itself would add a message id."""
        header = ContentHeader(body_size=len(body), properties=spec.Basic.Properties(**properties))
        frames = [spec.Basic.Publish(exchange="", routing_key=self._name), header, ContentBody(body)]
        await self._channel.write_queue.put(ChannelFrame.marshall(self._channel.number, frames))

    async def sent(self) -> None:
        """Return once RabbitMQ has everything."""
        await self._channel.basic_qos()  # it answers in order


@asynccontextmanager
async def old_producer(url: str, name: str = OLD_QUEUE) -> AsyncIterator[OldProducer]:
    """Run the producer of 2019, which declares its queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await declare_as_in_2019(channel, name)
        below = await channel.get_underlay_channel()
        assert isinstance(below, Channel)
        producer = OldProducer(below, name)
        yield producer
        await producer.sent()
