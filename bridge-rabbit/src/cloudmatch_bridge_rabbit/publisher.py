"""The connection to RabbitMQ: the only module that knows aio-pika."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from aiormq import spec
from aiormq.channel import Channel
from prometheus_client import Counter, Gauge

from cloudmatch_bridge_rabbit.core import dead_letter
from cloudmatch_bridge_rabbit.core.dead_letter import Letter
from cloudmatch_bridge_rabbit.core.sizes import Size
from cloudmatch_bus.client.consumer import DownstreamError
from cloudmatch_bus.contract import amqp
from cloudmatch_bus.process.settings import AmqpSettings

log = logging.getLogger("rabbit")
# The driver tells every loss with a traceback; here it is told in a sentence.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

IN_FLIGHT = 1000  # messages that wait for their confirm, at most
PATIENCE = 10.0  # s for the confirms of so many, while RabbitMQ takes messages
LOOK = 1.0  # s between two looks whether it does
CONNECTING = 5.0  # s for a connection with all that is declared
PAUSE = 1.0  # s between two attempts
COUNTING = 5.0  # s between two looks at the dead letters
BATCH = 200  # dead letters that are moved at a time

FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError)  # what is raised when the broker is away or refuses

_connections = Counter("cloudmatch_bridge_rabbit_connections", "Connections to RabbitMQ that were made")
_confirmed = Counter("cloudmatch_bridge_rabbit_confirmed", "Sizes that RabbitMQ has confirmed")
_dead = Gauge("cloudmatch_bridge_rabbit_dead_letters", "Sizes that a reader of RabbitMQ rejected")
_failed = Counter("cloudmatch_bridge_rabbit_failed", "Publications that RabbitMQ did not confirm")


class Rabbit:
    """A channel with publisher confirms, made anew whenever it is lost."""

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._reason = "not connected to RabbitMQ"
        self._blocked = False  # RabbitMQ takes no messages: a memory or disk alarm
        self._ready = asyncio.Event()  # set once there was a connection

    def health(self) -> str | None:
        """Give the reason why RabbitMQ cannot be used, or None."""
        if self._blocked:
            return "RabbitMQ takes no messages now: memory or disk alarm"
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
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await amqp.declare(channel, self._settings.queue_type)
        return await _underlay(channel)

    async def count_dead(self, stop: asyncio.Event) -> None:
        """Look now and then how many dead letters there are, until `stop`; warn when there are more."""
        known = 0
        while not stop.is_set():
            if self._connection is not None and self._usable() and not self._blocked:
                with contextlib.suppress(*FAILURES):
                    async with asyncio.timeout(CONNECTING), await self._connection.channel() as channel:
                        count = await _count(channel)
                    _dead.set(count)
                    if count > known:
                        log.warning("%d sizes were rejected: see `bridge-rabbit dead-letters`", count)
                    known = count
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), COUNTING)

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
        failed = [why for why in await _outcome(tasks, self._confirms(channel, tasks)) if why]
        _confirmed.inc(len(tasks) - len(failed))
        if not failed:
            return
        _failed.inc(len(failed))
        await self.close()  # the next connection declares anew what may be missing
        raise DownstreamError(f"RabbitMQ did not confirm {len(failed)} sizes: {failed[0]}")

    async def _confirms(self, channel: Channel, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait until all are done, or nothing is heard of some for `PATIENCE`.

        While RabbitMQ blocks the connection it is not silent: what was sent is neither lost nor confirmed,
        and to send it again would double it.
        """
        silent, waiting = 0.0, set(tasks)
        try:
            while waiting and silent < PATIENCE:
                _, waiting = await asyncio.wait(waiting, timeout=LOOK)
                self._blocked = bool(waiting) and await _refusing(channel)
                silent = 0.0 if self._blocked else silent + LOOK
        finally:
            self._blocked = False

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(connection.close(), 1.0)


async def _underlay(channel: AbstractChannel) -> Channel:
    under = await channel.get_underlay_channel()
    assert isinstance(under, Channel)
    return under


async def _refusing(channel: Channel) -> bool:
    """Tell whether RabbitMQ has said that it takes no messages on this channel's connection."""
    try:
        await asyncio.wait_for(channel.connection.ready(), 0.01)
    except TimeoutError:
        return True
    return False


async def _count(channel: AbstractChannel) -> int:
    """Give how many dead letters wait."""
    queue = await channel.declare_queue(amqp.DEAD_QUEUE, passive=True)
    return queue.declaration_result.message_count or 0


async def _send(channel: Channel, size: Size) -> None:
    """Publish one size; return once it is confirmed. Unroutable is a failure."""
    # not an aio_pika.Message, which takes longer to make than to send
    properties = spec.Basic.Properties(
        content_type="text/plain",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=size.message_id,
        timestamp=datetime.fromtimestamp(size.at / 1000, UTC),
        headers=dict(size.headers),
    )
    await channel.basic_publish(
        size.body,
        exchange=amqp.EXCHANGE,
        routing_key=size.routing_key,
        properties=properties,
        mandatory=True,
        wait=False,  # for the socket, of each message: the confirm is what counts (7,300 → 10,600 a second)
    )


async def _outcome(tasks: Sequence[asyncio.Task[None]], end: Awaitable[object]) -> list[str | None]:
    """Wait for `end`, and give up what is not done then; say why each failed, None where it did not."""
    try:
        await end
    finally:
        late = {task for task in tasks if task.cancel()}
    return [f"nothing within {PATIENCE:.0f} s" if task in late else _failure(task) for task in tasks]


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


class DeadLettersError(Exception):
    """RabbitMQ cannot be used, or did not take a message; says why."""


class DeadLetters:
    """The queue of what a reader of RabbitMQ rejected. Make one with `dead_letters`."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def count(self) -> int:
        """Give how many there are."""
        try:
            async with await self._connection.channel() as channel:
                return await _count(channel)
        except ChannelNotFoundEntity:  # nobody has declared it yet
            return 0

    async def look(self, limit: int) -> list[Letter]:
        """Give the oldest of them, `limit` at most, and leave them where they are."""
        async with await self._connection.channel() as channel:  # closed, it gives back what was taken
            taken = await _take(await channel.get_queue(amqp.DEAD_QUEUE, ensure=False), limit)
        return [_letter(message) for message in taken]

    async def replay(self, limit: int, moved: Callable[[], None]) -> int:
        """Publish the oldest of them anew, `limit` at most, as they were; give how many.

        Each is taken away once RabbitMQ has confirmed it, so that none is lost; after a failure one may be
        in both places, under the same ``message_id``.

        Args:
            moved: called for each.

        Raises:
            DeadLettersError: one was not confirmed.
        """
        done = 0
        async with await self._connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
            queue = await channel.get_queue(amqp.DEAD_QUEUE, ensure=False)
            under = await _underlay(channel)
            while batch := await _take(queue, min(BATCH, limit - done)):
                tasks = [asyncio.create_task(_again(under, message)) for message in batch]
                outcome = await _outcome(tasks, asyncio.wait(tasks, timeout=PATIENCE))
                for message, why in zip(batch, outcome, strict=True):
                    if why is None:
                        await message.ack()
                        done += 1
                        moved()
                if failed := [why for why in outcome if why]:
                    raise DeadLettersError(f"RabbitMQ took {done} dead letters, then not all: {failed[0]}")
        return done


@contextlib.asynccontextmanager
async def dead_letters(settings: AmqpSettings) -> AsyncIterator[DeadLetters]:
    """Connect to look at the dead letters.

    Raises:
        DeadLettersError: RabbitMQ cannot be used.
    """
    try:
        async with await aio_pika.connect(settings.address, timeout=CONNECTING) as connection:
            yield DeadLetters(connection)
    except FAILURES as error:
        raise DeadLettersError(f"cannot use RabbitMQ: {error!r}") from error


async def _take(queue: AbstractQueue, limit: int) -> list[AbstractIncomingMessage]:
    """Take messages off the queue, `limit` at most, without acknowledging them."""
    taken: list[AbstractIncomingMessage] = []
    while len(taken) < limit and (message := await queue.get(fail=False)) is not None:
        taken.append(message)
    return taken


def _letter(message: AbstractIncomingMessage) -> Letter:
    return dead_letter.letter(message.message_id, message.routing_key, message.body, message.headers)


async def _again(channel: Channel, message: AbstractIncomingMessage) -> None:
    """Publish a dead letter as it was before it died; return once it is confirmed."""
    properties = message.properties
    properties.headers = dead_letter.original(message.headers)
    await channel.basic_publish(
        message.body,
        exchange=amqp.EXCHANGE,
        routing_key=message.routing_key or "",
        properties=properties,
        mandatory=True,
        wait=False,
    )
