"""Publish prepared messages to RabbitMQ, over a connection that is kept open."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import aio_pika
from aio_pika.abc import AbstractConnection
from prometheus_client import Counter

from cloudmatch_bridge_rabbit.channel import PreparedChannel, UnconfirmedError, open_channel
from cloudmatch_bridge_rabbit.confirms import CONFIRM_TIMEOUT, CONNECT_TIMEOUT, FAILURES
from cloudmatch_bridge_rabbit.core.frames import Block
from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_bus.process.settings import AmqpSettings

log = logging.getLogger("rabbit")

IN_FLIGHT = 16  # blocks awaiting their confirms, at most
CHECK_INTERVAL = 1.0  # s between two checks whether RabbitMQ blocks the connection
RETRY_INTERVAL = 1.0  # s between two attempts to connect

_connections = Counter("cloudmatch_bridge_rabbit_connections", "Connections opened to RabbitMQ")
_failed = Counter("cloudmatch_bridge_rabbit_failed", "Messages that RabbitMQ did not confirm")

Declare = Callable[[AbstractConnection], Awaitable[object]]
Encode = Callable[[int, int], Iterator[Block]]  # for a channel number; with so many bytes in a frame, at most


class Publisher:
    """A channel with publisher confirms, reopened whenever it is lost."""

    def __init__(self, settings: AmqpSettings, declare: Declare, confirmed: Counter) -> None:
        """Publish nothing yet.

        Args:
            declare: declares on a new connection what messages need.
            confirmed: counts messages that RabbitMQ has confirmed.
        """
        self._settings = settings
        self._declare = declare
        self._count = confirmed
        self._connection: AbstractConnection | None = None
        self._channel: PreparedChannel | None = None
        self._reason = "not connected to RabbitMQ"
        self._refusal: str | None = self._reason
        self._blocked = False  # RabbitMQ accepts no messages: memory or disk alarm
        self._ready = asyncio.Event()  # set by the first connection

    def health(self) -> str | None:
        """Return why RabbitMQ cannot be used, or None."""
        if self._blocked:
            return "RabbitMQ is not accepting messages: memory or disk alarm"
        return None if self._usable() else self._reason

    def refusal(self) -> str | None:
        """Return why RabbitMQ could not be used at the last attempt, or None: it may be lost since."""
        return self._refusal

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

    async def _connect(self) -> None:
        await self.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._connection = await aio_pika.connect(self._settings.address)
                await self._declare(self._connection)
                self._channel = await open_channel(self._connection)
        except FAILURES as error:
            reason = f"cannot use RabbitMQ: {error!r}"
            if reason != self._reason:
                log.warning("%s", reason)
            self._reason = self._refusal = reason
            await self.close()
        else:
            self._reason, self._refusal = "connection to RabbitMQ lost", None
            self._ready.set()
            _connections.inc()
            log.info("connected to RabbitMQ")

    async def publish(self, encode: Encode) -> None:
        """Publish all, and wait until RabbitMQ has confirmed all.

        Raises:
            DownstreamError: some or all were not confirmed.
        """
        channel = self._channel
        if channel is None or channel.is_closed:
            raise DownstreamError(self._reason)
        try:
            await self._publish(channel, encode(channel.number, channel.max_content_size))
        except UnconfirmedError as error:
            _failed.inc(channel.in_flight)
            await self.close()  # reconnecting declares whatever may be missing
            raise DownstreamError(
                f"RabbitMQ did not confirm {channel.in_flight} messages: {error}"
            ) from error

    async def _publish(self, channel: PreparedChannel, blocks: Iterator[Block]) -> None:
        in_flight: deque[int] = deque()  # delivery tags, each the last of a block
        for block in blocks:
            if len(in_flight) == IN_FLIGHT:
                await self._confirmed(channel, in_flight.popleft())
            in_flight.append(await channel.send(block))
            await asyncio.sleep(0)  # whoever else publishes has its turn
        if in_flight:
            await self._confirmed(channel, in_flight[-1])

    async def _confirmed(self, channel: PreparedChannel, tag: int) -> None:
        """Wait for confirms up to a tag, or until there was none for `CONFIRM_TIMEOUT` without a block.

        Messages sent on a blocked connection are neither lost nor confirmed: sending them again would
        duplicate them.
        """
        silent, done = 0.0, False
        try:
            while not done and silent < CONFIRM_TIMEOUT:
                before = channel.confirms
                done = await channel.confirmed(tag, CHECK_INTERVAL)
                self._blocked = not done and await _is_blocked(channel)
                progress = self._blocked or channel.confirms > before
                silent = 0.0 if progress else silent + CHECK_INTERVAL
        finally:
            self._blocked = False
            self._count.inc(channel.new_confirms())
        if not done:
            raise UnconfirmedError(f"no confirm within {CONFIRM_TIMEOUT:.0f} s")

    async def close(self) -> None:
        """Close the connection, if any."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(connection.close(), 1.0)


async def _is_blocked(channel: PreparedChannel) -> bool:
    """Whether RabbitMQ has blocked this channel's connection."""
    try:
        await asyncio.wait_for(channel.connection.ready(), 0.01)
    except TimeoutError:
        return True
    return False
