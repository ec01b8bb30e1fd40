"""The dead-letter queues: count, list and replay what consumers rejected, and facts that were set aside."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.channel import Channel
from pamqp import decode, encode
from prometheus_client import Gauge

from cloudmatch_bridge_rabbit import confirms, set_aside
from cloudmatch_bridge_rabbit.channel import UnconfirmedError
from cloudmatch_bridge_rabbit.confirms import CONFIRM_TIMEOUT, CONNECT_TIMEOUT, FAILURES
from cloudmatch_bridge_rabbit.core.dead_letter import DeadLetter, original_headers
from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten, amqp_set_aside
from cloudmatch_bus.contract.amqp_tolerance import encodable, tolerate
from cloudmatch_bus.process.settings import AmqpSettings

log = logging.getLogger("rabbit")

COUNT_INTERVAL = 5.0  # s between two counts
BATCH = 200  # dead letters replayed at a time

_dead = Gauge("cloudmatch_bridge_rabbit_dead_letters", "Messages in the dead-letter queues")


class Place(NamedTuple):
    """A dead-letter queue, and where its messages are replayed."""

    queue: str
    exchange: str
    routing_key: str = ""  # "": their own


# Sizes go to the queue itself: what else is bound to their exchange has had them.
REJECTED = (
    Place(amqp_batches.DEAD_QUEUE, amqp_batches.EXCHANGE),
    Place(amqp_forgotten.DEAD_QUEUE, amqp_forgotten.EXCHANGE),
    Place(amqp.DEAD_QUEUE, "", amqp.QUEUE),
)
FACTS = Place(amqp_set_aside.QUEUE, "")  # published as what they become
PLACES = (*REJECTED, FACTS)


class DeadLetterError(Exception):
    """RabbitMQ cannot be used, or did not confirm a message; the message gives the reason."""


class DeadLetters:
    """The messages in the dead-letter queues. Open them with `dead_letters`."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def count(self) -> int:
        """Return how many dead letters there are."""
        return sum([await _count(self._connection, place) for place in PLACES])

    async def peek(self, limit: int) -> list[DeadLetter]:
        """Return the oldest of each queue, `limit` at most, and leave them where they are."""
        letters: list[DeadLetter] = []
        for place in PLACES:
            # a queue that was never declared is not read; closing the channel requeues what was fetched
            if count := min(limit - len(letters), await _count(self._connection, place)):
                async with await self._connection.channel() as channel:
                    messages = await _fetch(await channel.get_queue(place.queue, ensure=False), count)
                letters += [
                    DeadLetter.parse(m.message_id, m.routing_key, m.body, m.headers) for m in messages
                ]
        return letters

    async def replay(self, limit: int, on_moved: Callable[[], None]) -> int:
        """Publish the oldest of each queue again, `limit` at most, as they were; return how many.

        A fact that still cannot be published stays. Each other is removed once RabbitMQ has confirmed it, so
        none is lost; after a failure one may be in both queues, under the same ``message_id``.

        Args:
            on_moved: called for each.

        Raises:
            DeadLetterError: one was not confirmed.
        """
        moved = 0
        for place in PLACES:
            # no more than there are now: one that is rejected again is not moved twice
            if count := min(limit - moved, await _count(self._connection, place)):
                moved += await self._replay(place, count, on_moved, moved)
        return moved

    async def _replay_facts(self, limit: int, on_moved: Callable[[], None]) -> int:
        try:
            return await set_aside.replay(self._connection, limit, on_moved)
        except UnconfirmedError as error:
            raise DeadLetterError(f"RabbitMQ failed: {error}") from error

    async def _replay(self, place: Place, limit: int, on_moved: Callable[[], None], before: int) -> int:
        if place is FACTS:
            return await self._replay_facts(limit, on_moved)
        moved = 0
        async with await self._connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
            queue = await channel.get_queue(place.queue, ensure=False)
            below = await confirms.underlay(channel)
            while batch := await _fetch(queue, min(BATCH, limit - moved)):
                outcome = await _republish(below, place, batch)
                for message, reason in zip(batch, outcome, strict=True):
                    if reason is None:
                        await message.ack()
                        moved += 1
                        on_moved()
                if failed := [reason for reason in outcome if reason]:
                    raise DeadLetterError(f"RabbitMQ failed after {before + moved} dead letters: {failed[0]}")
        return moved


@contextlib.asynccontextmanager
async def dead_letters(settings: AmqpSettings) -> AsyncIterator[DeadLetters]:
    """Connect to RabbitMQ and open the dead-letter queues.

    Raises:
        DeadLetterError: RabbitMQ cannot be used.
    """
    tolerate(decode.METHODS)
    try:
        async with await aio_pika.connect(settings.address, timeout=CONNECT_TIMEOUT) as connection:
            yield DeadLetters(connection)
    except FAILURES as error:
        raise DeadLetterError(f"cannot use RabbitMQ: {error!r}") from error


async def watch(connection: Callable[[], AbstractConnection | None], stop: asyncio.Event) -> None:
    """Count the dead letters regularly until `stop`; log a warning when there are more.

    Args:
        connection: returns a usable connection, or None while there is none.
    """
    known = 0
    while not stop.is_set():
        if (usable := connection()) is not None:
            with contextlib.suppress(*FAILURES):
                known = await _observe(usable, known)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), COUNT_INTERVAL)


async def _observe(connection: AbstractConnection, known: int) -> int:
    async with asyncio.timeout(CONNECT_TIMEOUT):
        count = await DeadLetters(connection).count()
    _dead.set(count)
    if count > known:
        log.warning("%d dead letters: run `bridge-rabbit dead-letters` to list them", count)
    return count


async def _count(connection: AbstractConnection, place: Place) -> int:
    try:
        async with await connection.channel() as channel:
            queue = await channel.declare_queue(place.queue, passive=True)
            return queue.declaration_result.message_count or 0
    except ChannelNotFoundEntity:  # not declared yet
        return 0


async def _fetch(queue: AbstractQueue, limit: int) -> list[AbstractIncomingMessage]:
    """Fetch messages from the queue, `limit` at most, without acknowledging them."""
    messages: list[AbstractIncomingMessage] = []
    while len(messages) < limit and (message := await queue.get(fail=False)) is not None:
        messages.append(message)
    return messages


async def _republish(
    channel: Channel, place: Place, messages: Sequence[AbstractIncomingMessage]
) -> list[str | None]:
    """Publish dead letters as they were; return why each failed, None if it was confirmed."""
    tasks = []
    for message in messages:
        properties = message.properties
        properties.headers = encodable(original_headers(message.headers), encode.field_table)
        key = place.routing_key or message.routing_key or ""
        sending = confirms.publish(channel, message.body, place.exchange, key, properties)
        tasks.append(asyncio.create_task(sending))
    return await confirms.failures(tasks, asyncio.wait(tasks, timeout=CONFIRM_TIMEOUT))
