"""RabbitMQ → Kafka, in a process of its own that Quix Streams starts.

A message is acknowledged to RabbitMQ only when Kafka has it, so none is lost; what was not acknowledged
comes again with the same id. A message that cannot be read goes to the dead-letter exchange.
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

from cloudmatch_analytics.core import kafka_records, sizes
from cloudmatch_analytics.core.kafka_records import PARTITIONS
from cloudmatch_analytics.core.watermark import Ticker
from cloudmatch_analytics.source_status import Pulse
from cloudmatch_bus.contract import amqp
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.runner import setup
from cloudmatch_bus.process.settings import AmqpSettings

BATCH = 1000  # messages in one flush to Kafka
LINGER = 0.05  # s a batch waits for more
TICK = 0.25  # s between two ticks
FLUSH = 0.5  # s that one attempt to flush may take
RETRY = 0.2, 1.0  # s between two attempts to connect, first and last

log = logging.getLogger("source")


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
        setup(AmqpSettings)
        logging.getLogger("quixstreams").handlers.clear()  # its own form of a line
        logging.getLogger("quixstreams").propagate = True
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # `_sessions` says what happened
        uvloop.run(self._sessions())

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
        await amqp.declare(channel, self._settings.queue_type)
        arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        # the driver's lower half: a message object and a task less for each size
        under = await channel.get_underlay_channel()
        assert isinstance(under, Channel)
        await under.basic_consume(amqp.QUEUE, arrived.put)
        log.info("consumes %s", amqp.QUEUE)
        ticker = Ticker(now_ms())
        next_tick = 0.0
        while self._wanted():
            if under.is_closed:
                raise ConnectionError("the channel was closed")
            batch = await _collect(arrived)
            last = await self._take(batch, under, ticker)
            if (turn := time.monotonic()) >= next_tick:
                next_tick = turn + TICK
                self._tick(ticker)
            if last and await self._flushed():
                await under.basic_ack(last, multiple=True)
            self._pulse.beats()

    async def _take(self, batch: list[DeliveredMessage], channel: Channel, ticker: Ticker) -> int:
        """Produce messages to Kafka; give the tag of the last to acknowledge once Kafka has it, 0: none."""
        last, found, arrival = 0, [], now_ms()
        for message in batch:
            assert message.delivery_tag
            try:
                size = _read(message, arrival)
            except sizes.UnreadableError as why:
                log.warning("message %s is rejected: %s", message.header.properties.message_id, why)
                self._pulse.count(rejected=1)
                await channel.basic_reject(message.delivery_tag, requeue=False)
                continue
            ticker.heard(size.at, arrival)
            found.append(size)
            last = message.delivery_tag
        for (bucket, _), together in kafka_records.batches(found).items():
            value = kafka_records.encode(kafka_records.Batch(arrival, together))
            at = max(size.at for size in together)
            self.produce(value, str(bucket), partition=bucket % PARTITIONS, timestamp=at)
        self._pulse.count(taken=len(found))
        return last

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
        at = ticker.tick(now_ms())
        if at is not None:
            for partition in range(PARTITIONS):
                self.produce(b"", kafka_records.TICK, partition=partition, timestamp=at)

    def _wanted(self) -> bool:
        return bool(self.running) and not orphaned()


def _read(message: DeliveredMessage, arrival: int) -> sizes.Size:
    about = message.header.properties
    return sizes.read(message.body, about.headers or {}, about.message_id, about.timestamp, arrival)


async def _collect(arrived: asyncio.Queue[DeliveredMessage]) -> list[DeliveredMessage]:
    """Give what has arrived, at most `BATCH`; wait for the first and for more no longer than `LINGER`."""
    batch: list[DeliveredMessage] = []
    try:
        async with asyncio.timeout(LINGER):
            while len(batch) < BATCH:
                batch.append(await arrived.get())
    except TimeoutError:
        pass
    return batch
