"""RabbitMQ → Kafka, in a process of its own that Quix Streams starts.

A message is acknowledged to RabbitMQ only when Kafka has it, so none is lost; what was not acknowledged
comes again with the same id. A message that cannot be read goes to the dead-letter exchange.
"""

import asyncio
import logging
import multiprocessing
import time
from collections.abc import Mapping

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from quixstreams.checkpointing.exceptions import CheckpointProducerTimeout
from quixstreams.sources import Source

from cloudmatch_analytics import sizes
from cloudmatch_analytics.pulse import Pulse
from cloudmatch_analytics.ticks import Ticker
from cloudmatch_analytics.topics import PARTITIONS
from cloudmatch_bus import amqp
from cloudmatch_bus.service import prepare
from cloudmatch_bus.settings import AmqpSettings

BATCH = 500  # messages in one flush to Kafka
LINGER = 0.05  # s a batch waits for more
TICK = 0.25  # s between two ticks
FLUSH = 0.5  # s that one attempt to flush may take
RETRY = 0.2, 1.0  # s between two attempts to connect, first and last
TICK_KEY = "tick"  # no key of a device: it has no dot

log = logging.getLogger("source")


async def topology(channel: AbstractChannel, queue_type: str) -> AbstractQueue:
    """Declare exchanges and queues, which changes nothing where they are; give the queue to consume."""
    exchange = await channel.declare_exchange(amqp.EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
    dead = await channel.declare_exchange(amqp.DEAD_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
    dead_queue = await channel.declare_queue(
        amqp.DEAD_QUEUE, durable=True, arguments={"x-queue-type": queue_type}
    )
    await dead_queue.bind(dead)
    queue = await channel.declare_queue(amqp.QUEUE, durable=True, arguments=amqp.queue_arguments(queue_type))
    await queue.bind(exchange, routing_key="#")
    return queue


def now() -> int:
    """Give the time, ms since 1970."""
    return time.time_ns() // 1_000_000


def orphaned() -> bool:
    """Tell whether the service that started this process is gone without a word."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


class AmqpSource(Source):
    """Takes sizes from `amqp.QUEUE`, and tells the pipeline how time passes."""

    def __init__(self, settings: AmqpSettings, pulse: Pulse) -> None:
        super().__init__("amqp", shutdown_timeout=1.5)
        self._settings = settings
        self._pulse = pulse

    def run(self) -> None:
        """Consume until the service says stop, or dies."""
        prepare(AmqpSettings)
        logging.getLogger("quixstreams").handlers.clear()  # its own form of a line
        logging.getLogger("quixstreams").propagate = True
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # `_sessions` says what happened
        asyncio.run(self._sessions())

    async def _sessions(self) -> None:
        retry, longest = RETRY
        while self._wanted():
            try:
                async with await aio_pika.connect(self._settings.address, timeout=5) as connection:
                    channel = await connection.channel()
                    retry = RETRY[0]
                    await self._session(channel)
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
                if self._pulse.trouble is None or reason not in self._pulse.trouble:  # say it once
                    log.warning("RabbitMQ is away: %s", reason)
                self._pulse.waits(f"RabbitMQ is away: {reason}")
                await asyncio.sleep(retry)
                retry = min(2 * retry, longest)

    async def _session(self, channel: AbstractChannel) -> None:
        await channel.set_qos(prefetch_count=2 * BATCH)
        queue = await topology(channel, self._settings.queue_type)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(arrived.put)
        log.info("consumes %s", amqp.QUEUE)
        ticker = Ticker(now())
        next_tick = 0.0
        while self._wanted():
            if channel.is_closed:
                raise ConnectionError("the channel was closed")
            batch = await _collect(arrived)
            taken = await self._take(batch, ticker)
            if (turn := time.monotonic()) >= next_tick:
                next_tick = turn + TICK
                self._tick(ticker)
            if taken and await self._flushed():
                await taken[-1].ack(multiple=True)
                self._pulse.count(taken=len(taken))
            self._pulse.beats()

    async def _take(
        self, batch: list[AbstractIncomingMessage], ticker: Ticker
    ) -> list[AbstractIncomingMessage]:
        """Produce a batch to Kafka; give what is to be acknowledged once Kafka has it."""
        taken = []
        for message in batch:
            try:
                size = _read(message)
            except sizes.UnreadableError as why:
                log.warning("message %s is rejected: %s", message.message_id, why)
                self._pulse.count(rejected=1)
                await message.reject(requeue=False)
                continue
            ticker.heard(size.at, now())
            self._produce(size.key, {"id": size.id, "bytes": size.bytes, "n": 1}, size.at)
            taken.append(message)
        return taken

    async def _flushed(self) -> bool:
        """Wait until Kafka has everything; False when the service stops before."""
        while self._wanted():
            try:
                await asyncio.to_thread(self.flush, FLUSH)
            except CheckpointProducerTimeout:
                self._pulse.waits("Kafka does not take what was sent")
            else:
                return True
        return False

    def cleanup(self, failed: bool) -> None:
        """Leave what Kafka has not confirmed: it was not acknowledged either and comes again."""

    def _tick(self, ticker: Ticker) -> None:
        at = ticker.tick(now())
        if at is not None:
            for partition in range(PARTITIONS):
                self._produce(TICK_KEY, {"id": None, "bytes": 0, "n": 0}, at, partition)

    def _produce(self, key: str, value: Mapping[str, object], at: int, partition: int | None = None) -> None:
        record = self.serialize(key=key, value=value, timestamp_ms=at)
        self.produce(key=record.key, value=record.value, timestamp=at, partition=partition)

    def _wanted(self) -> bool:
        return bool(self.running) and not orphaned()


def _read(message: AbstractIncomingMessage) -> sizes.Size:
    return sizes.read(message.body, message.headers, message.message_id, message.timestamp, now())


async def _collect(arrived: asyncio.Queue[AbstractIncomingMessage]) -> list[AbstractIncomingMessage]:
    """Give what has arrived, at most `BATCH`; wait for the first and for more no longer than `LINGER`."""
    batch: list[AbstractIncomingMessage] = []
    try:
        async with asyncio.timeout(LINGER):
            while len(batch) < BATCH:
                batch.append(await arrived.get())
    except TimeoutError:
        pass
    return batch
