"""Facts that could not be published: keep them in RabbitMQ, and publish them when asked to."""

import logging
from collections.abc import Callable

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from cloudmatch_bridge_rabbit.channel import PreparedChannel, UnconfirmedError, open_channel
from cloudmatch_bridge_rabbit.confirms import CONFIRM_TIMEOUT
from cloudmatch_bridge_rabbit.core import frames
from cloudmatch_bridge_rabbit.core.set_aside import encoded, replayed
from cloudmatch_bridge_rabbit.publisher import Publisher
from cloudmatch_bus.client.isolation import SetAside, Unhandled
from cloudmatch_bus.contract import amqp_set_aside
from cloudmatch_bus.process.clock import now_ms

log = logging.getLogger("rabbit")


def keep_in(publisher: Publisher, consumer: str) -> SetAside:
    """Return what keeps a fact of `consumer` in RabbitMQ."""

    async def keep(fact: Unhandled) -> None:
        headers: dict[str, frames.Value] = {
            amqp_set_aside.CONSUMER: consumer,
            amqp_set_aside.POSITION: fact.position,
            amqp_set_aside.SUBJECT: fact.subject,
            amqp_set_aside.AT: now_ms(),
        }
        await publisher.publish(
            lambda channel, most: frames.blocks([encoded(fact.payload, headers, fact.reason, channel, most)])
        )

    return keep


async def replay(connection: AbstractConnection, limit: int, on_moved: Callable[[], None]) -> int:
    """Publish what was set aside, the oldest `limit` at most; return how many facts could be.

    The others stay. Each is removed once RabbitMQ has confirmed what became of it.

    Raises:
        UnconfirmedError: RabbitMQ did not.
    """
    moved = 0
    channel = await open_channel(connection)
    async with connection.channel() as reading:
        queue = await reading.get_queue(amqp_set_aside.QUEUE, ensure=False)
        for _ in range(limit):
            message = await queue.get(fail=False)
            if message is None:
                break
            try:
                blocks = _blocks(message, channel)
            except Exception as error:  # noqa: BLE001  # any is why it was set aside
                position = message.headers.get(amqp_set_aside.POSITION)
                log.warning("the fact at position %s stays: %s: %s", position, type(error).__name__, error)
                continue
            await _publish(channel, blocks)
            await message.ack()
            moved += 1
            on_moved()
    return moved


def _blocks(message: AbstractIncomingMessage, channel: PreparedChannel) -> list[frames.Block]:
    consumer = str(message.headers.get(amqp_set_aside.CONSUMER))
    position = message.headers.get(amqp_set_aside.POSITION)
    assert isinstance(position, int)
    return list(replayed(consumer, position, message.body, channel.number, channel.max_content_size))


async def _publish(channel: PreparedChannel, blocks: list[frames.Block]) -> None:
    tag = 0
    for block in blocks:
        tag = await channel.send(block)
    if not await channel.confirmed(tag, CONFIRM_TIMEOUT):
        raise UnconfirmedError(f"no confirm within {CONFIRM_TIMEOUT:.0f} s")
