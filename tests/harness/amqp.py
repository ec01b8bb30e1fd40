"""Collect what is published to RabbitMQ."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from cloudmatch_bus.contract import amqp


@asynccontextmanager
async def arriving(amqp_url: str) -> AsyncIterator[list[AbstractIncomingMessage]]:
    """Consume the queue into the list that is yielded."""
    messages: list[AbstractIncomingMessage] = []

    async def collect(message: AbstractIncomingMessage) -> None:
        messages.append(message)
        await message.ack()

    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(amqp.QUEUE)
        await queue.consume(collect)
        yield messages
