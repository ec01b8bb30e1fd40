"""RabbitMQ → Kafka, in a process of its own that Quix Streams starts.

A message is acknowledged to RabbitMQ only once Kafka has it, so none is lost; an unacknowledged one is
redelivered with the same id. An unreadable message is rejected and becomes a dead letter.
"""

import asyncio
import logging
import multiprocessing
import time

import aio_pika
import uvloop
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from quixstreams.checkpointing.exceptions import CheckpointProducerTimeout
from quixstreams.sources import Source

from cloudmatch_analytics.core import kafka_records
from cloudmatch_analytics.core.kafka_records import PARTITIONS, Size
from cloudmatch_analytics.core.watermark import WatermarkClock
from cloudmatch_analytics.source_status import SourceStatus
from cloudmatch_bus.contract import amqp
from cloudmatch_bus.contract.amqp import SizeMessage, UnreadableError
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.runner import setup
from cloudmatch_bus.process.settings import AmqpSettings

BATCH = 1000  # messages per flush to Kafka, at most
LINGER = 0.05  # s that a batch waits for more messages
WATERMARK_INTERVAL = 0.25  # s
FLUSH_TIMEOUT = 0.5  # s of one attempt
RETRY = 0.2, 1.0  # s between two attempts to connect: the first, the longest

log = logging.getLogger("source")


class AmqpSource(Source):
    """Consumes `amqp.QUEUE`, and produces batches of sizes and watermarks."""

    def __init__(self, settings: AmqpSettings, status: SourceStatus) -> None:
        super().__init__("amqp", shutdown_timeout=1.5)
        self._settings = settings
        self._status = status

    def run(self) -> None:
        """Consume until the service stops the source, or dies."""
        setup(AmqpSettings)
        logging.getLogger("quixstreams").handlers.clear()  # it has a log format of its own
        logging.getLogger("quixstreams").propagate = True
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # `_keep_consuming` logs what happened
        uvloop.run(self._keep_consuming())

    async def _keep_consuming(self) -> None:
        retry, longest = RETRY
        while self._active():
            try:
                async with await aio_pika.connect(self._settings.address, timeout=5) as connection:
                    channel = await connection.channel()
                    retry = RETRY[0]
                    await self._consume(channel)
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
                if self._status.problem is None or reason not in self._status.problem:  # log it once
                    log.warning("RabbitMQ unreachable: %s", reason)
                self._status.set_waiting(f"RabbitMQ is unreachable: {reason}")
                await asyncio.sleep(retry)
                retry = min(2 * retry, longest)

    async def _consume(self, channel: AbstractChannel) -> None:
        """Consume over one channel until it closes."""
        await channel.set_qos(prefetch_count=2 * BATCH)
        await amqp.declare(channel, self._settings.queue_type)
        arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        # aiormq, the layer below aio-pika: one message object and one task less per size
        below = await channel.get_underlay_channel()
        assert isinstance(below, Channel)
        await below.basic_consume(amqp.QUEUE, arrived.put)
        log.info("consuming %s", amqp.QUEUE)
        clock = WatermarkClock(now_ms())
        next_watermark = 0.0
        while self._active():
            if below.is_closed:
                raise ConnectionError("the channel was closed")
            batch = await _collect(arrived)
            last = await self._forward(batch, below, clock)
            if (now := time.monotonic()) >= next_watermark:
                next_watermark = now + WATERMARK_INTERVAL
                self._emit_watermark(clock)
            if last and await self._flushed():
                await below.basic_ack(last, multiple=True)
            self._status.set_consuming()

    async def _forward(
        self, messages: list[DeliveredMessage], channel: Channel, clock: WatermarkClock
    ) -> int:
        """Produce messages to Kafka; return the last delivery tag to acknowledge after a flush, 0: none."""
        last, sizes, arrival = 0, [], now_ms()
        for message in messages:
            assert message.delivery_tag
            try:
                size = _size(message, arrival)
            except UnreadableError as error:
                log.warning("message %s rejected: %s", message.header.properties.message_id, error)
                self._status.count(rejected=1)
                await channel.basic_reject(message.delivery_tag, requeue=False)
                continue
            clock.observe(size.at, arrival)
            sizes.append(size)
            last = message.delivery_tag
        self._produce_batches(sizes, arrival)
        self._status.count(consumed=len(sizes))
        return last

    def _produce_batches(self, sizes: list[Size], arrival: int) -> None:
        for (bucket, _), group in kafka_records.batches(sizes).items():
            value = kafka_records.encode(kafka_records.Batch(arrival, group))
            at = max(size.at for size in group)
            self.produce(value, str(bucket), partition=bucket % PARTITIONS, timestamp=at)

    def _emit_watermark(self, clock: WatermarkClock) -> None:
        at = clock.watermark(now_ms())
        if at is not None:
            for partition in range(PARTITIONS):
                self.produce(b"", kafka_records.WATERMARK_KEY, partition=partition, timestamp=at)

    async def _flushed(self) -> bool:
        """Wait until Kafka has everything; False when the service stops first."""
        while self._active():
            try:
                await asyncio.to_thread(self.flush, FLUSH_TIMEOUT)
            except CheckpointProducerTimeout:
                self._status.set_waiting("Kafka does not accept records")
            else:
                return True
        return False

    def cleanup(self, failed: bool) -> None:
        """Drop what Kafka has not confirmed: it was not acknowledged either and will be redelivered."""

    def _active(self) -> bool:
        return bool(self.running) and not _orphaned()


def _orphaned() -> bool:
    """Whether the service that started this process has died."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _size(message: DeliveredMessage, arrival: int) -> Size:
    of = message.header.properties
    return kafka_records.size(
        SizeMessage.decode(message.body, of.headers or {}, of.message_id, of.timestamp), arrival
    )


async def _collect(arrived: asyncio.Queue[DeliveredMessage]) -> list[DeliveredMessage]:
    """Return up to `BATCH` messages: those that arrive within `LINGER`."""
    batch: list[DeliveredMessage] = []
    try:
        async with asyncio.timeout(LINGER):
            while len(batch) < BATCH:
                batch.append(await arrived.get())
    except TimeoutError:
        pass
    return batch
