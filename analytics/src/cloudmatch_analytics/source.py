"""RabbitMQ → Kafka, in a process of its own that Quix Streams starts.

A message is acknowledged to RabbitMQ only once Kafka has it, so none is lost; an unacknowledged one is
redelivered with the same id. An unreadable message becomes a dead letter: RabbitMQ sees to it in our own
queues, the source itself in the input queues of producers of 2019, which have no dead-letter exchange.
"""

import asyncio
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import aio_pika
import uvloop
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPChannelError, AMQPError, ChannelInvalidStateError, ChannelNotFoundEntity
from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from quixstreams.checkpointing.exceptions import CheckpointProducerTimeout
from quixstreams.sources import Source

from cloudmatch_analytics.core import kafka_records
from cloudmatch_analytics.core.kafka_records import BatchSums, Size
from cloudmatch_analytics.core.watermark import WatermarkClock, low_watermark
from cloudmatch_analytics.core.windows import BASE
from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_analytics.source_status import SourceStatus
from cloudmatch_analytics.throttle import Throttle
from cloudmatch_bus.contract import amqp, amqp_batches
from cloudmatch_bus.contract.amqp import SizeMessage, UnreadableError
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.runner import setup
from cloudmatch_bus.process.settings import AmqpSettings

AT_ONCE = 1000  # messages per flush to Kafka, at most
PREFETCH = 2 * AT_ONCE  # messages of each queue that are not acknowledged, at most
PREFETCH_BATCHES = 100  # the same of batches, which are large
LINGER = 0.1  # s that messages wait for more of them
WATERMARK_INTERVAL = 0.25  # s
FLUSH_TIMEOUT = 0.5  # s of one attempt
CONFIRM_INTERVAL = 1.0  # s between two checks while RabbitMQ does not confirm dead letters
THROTTLED = 0.02  # s between two checks whether pipelines have caught up
RETRY = 0.2, 1.0  # s between two attempts to connect: the first, the longest

log = logging.getLogger("source")


class Input:
    """A queue, consumed over one channel together with others."""

    def __init__(self, queue: str, arrived: "asyncio.Queue[Arrival]") -> None:
        self.queue = queue
        self.clock = WatermarkClock(now_ms())
        self._arrived = arrived
        self._warned = False

    async def receive(self, message: DeliveredMessage) -> None:
        """Take a message from the driver."""
        self.clock.arrive()
        self._arrived.put_nowait(Arrival(self, message))

    @property
    def batches(self) -> bool:
        """Whether its messages are batches."""
        return self.queue == amqp_batches.QUEUE

    @property
    def own(self) -> bool:
        """Whether it is ours, and no plain queue."""
        return self.queue in (amqp_batches.QUEUE, amqp.QUEUE)

    def is_copy(self, message: DeliveredMessage) -> bool:
        """Whether another queue of ours has the size, too.

        `amqp.QUEUE` gets all that is published to the exchange, `amqp_batches.QUEUE` all that is batched.
        """
        if self.batches:
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


class AmqpSource(Source):
    """Consumes the queues of `status`, and produces sizes and watermarks."""

    def __init__(
        self, settings: AmqpSettings, kafka: KafkaSettings, group: str, partitions: int, status: SourceStatus
    ) -> None:
        super().__init__("amqp", shutdown_timeout=1.5)
        self._settings = settings
        self._kafka = kafka
        self._group = group  # of the pipelines
        self._partitions = partitions
        self._status = status
        # of the embedded broker only, in the source's own process
        self._throttle: Throttle | None = None

    def run(self) -> None:
        """Consume until the service stops the source, or dies."""
        setup(AmqpSettings)
        logging.getLogger("quixstreams").handlers.clear()  # it has a log format of its own
        logging.getLogger("quixstreams").propagate = True
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # `_keep_consuming` logs what happened
        if self._kafka.embedded:
            self._throttle = Throttle(self._kafka, self._group, self._partitions)
        uvloop.run(self._keep_consuming())

    async def _keep_consuming(self) -> None:
        retry, longest = RETRY
        while self._active():
            try:
                async with await aio_pika.connect(self._settings.address, timeout=5) as connection:
                    retry = RETRY[0]
                    await self._consume(connection)
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
                what = (
                    "RabbitMQ refuses" if isinstance(error, AMQPChannelError) else "RabbitMQ is unreachable"
                )
                reason = f"{what}: {str(error) or type(error).__name__}"
                if self._status.problem is None or reason not in self._status.problem:  # log it once
                    log.warning("%s", reason)
                self._status.set_waiting(reason)
                await asyncio.sleep(retry)
                retry = min(2 * retry, longest)

    async def _consume(self, connection: AbstractConnection) -> None:
        """Consume over one channel until it closes."""
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await amqp_batches.declare(channel, self._settings.queue_type)
        await amqp.declare(channel, self._settings.queue_type)
        # aiormq, the layer below aio-pika: one message object and one task less per size
        below = await channel.get_underlay_channel()
        assert isinstance(below, Channel)
        arrived: asyncio.Queue[Arrival] = asyncio.Queue()
        inputs = [Input(queue, arrived) for queue in self._status.queues]
        for each in inputs:
            if not each.own:
                await amqp.declare_plain(connection, each.queue, ChannelNotFoundEntity)
            # of each consumer that begins from now on
            await below.basic_qos(prefetch_count=PREFETCH_BATCHES if each.batches else PREFETCH)
            await below.basic_consume(each.queue, each.receive)
        log.info("consuming %s", ", ".join(self._status.queues))
        next_watermark = 0.0
        while self._active():
            if below.is_closed:
                raise ConnectionError("the channel was closed")
            if len(below.consumers) < len(inputs):
                raise ConnectionError("a queue was deleted")
            batch = await _collect(arrived)
            last = await self._forward(batch, below)
            if (now := time.monotonic()) >= next_watermark:
                next_watermark = now + WATERMARK_INTERVAL
                self._emit_watermark(low_watermark((each.clock for each in inputs), now_ms()))
            if last and await self._flushed():
                await below.basic_ack(last, multiple=True)
                for each in {origin for origin, _ in batch}:
                    each.clock.acknowledge(now_ms())
            self._status.set_consuming()

    async def _forward(self, messages: list[Arrival], channel: Channel) -> int:
        """Produce messages to Kafka; return the last delivery tag to acknowledge after a flush, 0: none."""
        last, arrival = 0, now_ms()
        batches: list[tuple[int, int, BatchSums]] = []
        sizes: list[Size] = []
        consumed: Counter[Input] = Counter()
        unreadable = []
        for origin, message in messages:
            assert message.delivery_tag
            if origin.is_copy(message):
                origin.clock.observe(0, arrival)
                self._status.count(origin.queue, copies=1)
            else:
                try:
                    if origin.batches:
                        at, payloads = self._add_batch(message, arrival, batches)
                    else:
                        sizes.append(_size(message, arrival))
                        at, payloads = sizes[-1].at, 1
                except UnreadableError as error:
                    log.warning("message %s rejected: %s", message.header.properties.message_id, error)
                    origin.clock.observe(0, arrival)
                    unreadable.append(Arrival(origin, message))
                    if origin.own:
                        continue
                else:
                    origin.clock.observe(at, arrival)
                    consumed[origin] += payloads
            last = message.delivery_tag
        # before anything is produced: if it fails, all are redelivered, and some have no id
        if not await self._rejected(unreadable, channel):
            return 0
        for partition, _, value in kafka_records.group_encoded(arrival, batches):
            if not await self._produced(value, kafka_records.BATCHES_KEY, partition, arrival):
                return 0
        for (bucket, _), group in kafka_records.singles(sizes).items():
            value = kafka_records.encode(kafka_records.Singles(arrival, group))
            at = max(size.at for size in group)
            if not await self._produced(value, str(bucket), bucket % self._partitions, at):
                return 0
        for origin, count in consumed.items():
            self._status.count(origin.queue, consumed=count)
        return last

    async def _rejected(self, messages: list[Arrival], channel: Channel) -> bool:
        """Make messages dead letters; False when the service stops before RabbitMQ has confirmed them."""
        tasks = []
        for origin, message in messages:
            if origin.own:
                assert message.delivery_tag
                await channel.basic_reject(message.delivery_tag, requeue=False)
                self._status.count(origin.queue, rejected=1)
            else:
                tasks.append(asyncio.create_task(_publish_dead(channel, origin.queue, message)))
        if not await self._confirmed(tasks):
            return False
        for origin, _ in messages:
            if not origin.own:
                self._status.count(origin.queue, rejected=1)
        return True

    async def _confirmed(self, tasks: Sequence[asyncio.Task[None]]) -> bool:
        """Wait until all are done, however long RabbitMQ accepts nothing; False when the service stops."""
        pending = set(tasks)
        try:
            while pending and self._active():
                _, pending = await asyncio.wait(pending, timeout=CONFIRM_INTERVAL)
                if pending:
                    self._status.set_waiting("RabbitMQ does not confirm dead letters")
        finally:
            for task in pending:
                task.cancel()
        if any(task.cancelled() for task in tasks):
            raise ConnectionError("the channel was closed")
        errors = [error for task in tasks if task.done() and (error := task.exception())]
        if errors:
            raise errors[0]
        return not pending

    def _add_batch(
        self, message: DeliveredMessage, arrival: int, to: list[tuple[int, int, BatchSums]]
    ) -> tuple[int, int]:
        """Add up a message that is a batch; return its time, at most the arrival, and its payloads."""
        batch = amqp_batches.decode(message.body)
        message_id = message.header.properties.message_id
        at = min(batch.at, arrival)
        partition = kafka_records.partition_of(message_id, self._partitions)
        to += [(partition, at - at % BASE, each) for each in kafka_records.batch_sums(message_id, batch)]
        return at, sum([span.payloads for span in batch.spans])

    async def _produced(self, value: bytes, key: str, partition: int, timestamp: int) -> bool:
        """Produce a record once the embedded broker can take it; False when the service stops first."""
        if self._throttle and self._throttle.is_due(len(value)):
            if not await self._flushed():
                return False
            self._throttle.mark()
            while not await asyncio.to_thread(self._throttle.is_open):
                if not self._active():
                    return False
                self._status.set_waiting("the pipelines are behind")
                await asyncio.sleep(THROTTLED)
        self.produce(value, key, partition=partition, timestamp=timestamp)
        return True

    def _emit_watermark(self, at: int | None) -> None:
        if at is not None:
            for partition in range(self._partitions):
                self.produce(b"", kafka_records.WATERMARK_KEY, partition=partition, timestamp=at)

    async def _flushed(self) -> bool:
        """Wait until Kafka has everything; False when the service stops first.

        Also a service that stops tries once: a size without an id that is redelivered counts again.
        """
        while True:
            try:
                await asyncio.to_thread(self.flush, FLUSH_TIMEOUT)
            except CheckpointProducerTimeout:
                self._status.set_waiting("Kafka does not accept records")
            else:
                return True
            if not self._active():
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


async def _publish_dead(channel: Channel, queue: str, message: DeliveredMessage) -> None:
    """Publish a message of a plain queue as a dead letter; return once RabbitMQ has confirmed.

    What would let it expire, or have it refused, is left out: expiration, user id, transience. The driver
    adds a message id if there is none.
    """
    of = message.header.properties
    key = message.routing_key or ""
    properties = spec.Basic.Properties(
        content_type=of.content_type,
        content_encoding=of.content_encoding,
        headers=amqp.dead_letter_headers(
            of.headers or {}, queue, message.exchange or "", key, datetime.now(UTC)
        ),
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


async def _collect(arrived: asyncio.Queue[Arrival]) -> list[Arrival]:
    """Return up to `AT_ONCE` messages: those that arrive within `LINGER`."""
    batch: list[Arrival] = []
    try:
        async with asyncio.timeout(LINGER):
            while len(batch) < AT_ONCE:
                batch.append(await arrived.get())
    except TimeoutError:
        pass
    return batch
