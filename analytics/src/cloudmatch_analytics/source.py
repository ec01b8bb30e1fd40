"""RabbitMQ → Kafka, in a process of its own that Quix Streams starts.

A message is acknowledged to RabbitMQ only once Kafka has it, so none is lost; an unacknowledged one is
redelivered with the same id. An unreadable message becomes a dead letter: RabbitMQ sees to it in our own
queues, the source itself in the input queues of producers of 2019, which have no dead-letter exchange.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence

import aio_pika
import uvloop
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPChannelError, AMQPError, ChannelInvalidStateError
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp import decode
from quixstreams.checkpointing.exceptions import CheckpointProducerTimeout
from quixstreams.sources import Source

from cloudmatch_analytics.clock import Clock, ClockWatch
from cloudmatch_analytics.core import kafka_records
from cloudmatch_analytics.core.kafka_records import BatchSums, Forget, Size
from cloudmatch_analytics.core.steady_clock import MessageTimes
from cloudmatch_analytics.core.watermark import low_watermark
from cloudmatch_analytics.core.windows import BASE
from cloudmatch_analytics.inputs import (
    Arrival,
    Input,
    SessionLostError,
    declare,
    decode_size,
    is_own,
    publish_dead,
)
from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_analytics.source_status import SourceStatus
from cloudmatch_analytics.throttle import Throttle
from cloudmatch_bus.contract import amqp_batches, amqp_forgotten
from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.amqp_tolerance import tolerate
from cloudmatch_bus.process.runner import setup
from cloudmatch_bus.process.settings import AmqpSettings

AT_ONCE = 1000  # messages per flush to Kafka, at most
PREFETCH = 2 * AT_ONCE  # messages of each queue that are not acknowledged, at most
PREFETCH_BATCHES = 100  # the same of batches, which are large
LINGER = 0.1  # s that messages wait for more of them
WATERMARK_INTERVAL = 0.25  # s
LOOK_INTERVAL = 0.5  # s between two looks at how many messages RabbitMQ holds back
CLOSE_TIMEOUT = 1.0  # s for which a server that does not answer is waited for
FLUSH_TIMEOUT = 0.5  # s of one attempt
CONFIRM_INTERVAL = 1.0  # s between two checks while RabbitMQ does not confirm dead letters
REMINDER = 60.0  # s between two lines about times that are ahead
THROTTLED = 0.02  # s between two checks whether pipelines have caught up
RETRY = 0.2, 1.0  # s between two attempts to connect: the first, the longest

# raised when a session ends that the service did not end
LOST = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError)

log = logging.getLogger("source")


class AmqpSource(Source):
    """Consumes the queues of `status`, and produces sizes and watermarks."""

    def __init__(
        self,
        settings: AmqpSettings,
        kafka: KafkaSettings,
        group: str,
        partitions: int,
        status: SourceStatus,
        clock: Clock,
    ) -> None:
        super().__init__("amqp", shutdown_timeout=1.5)
        self._settings = settings
        self._kafka = kafka
        self._group = group  # of the pipelines
        self._partitions = partitions
        self._status = status
        self._clock = clock
        # in the source's own process
        self._watch: ClockWatch
        self._times = MessageTimes()
        self._next_reminder = 0.0  # monotonic, s
        # of the embedded broker only, in the source's own process
        self._throttle: Throttle | None = None

    def run(self) -> None:
        """Consume until the service stops the source, or dies."""
        setup(AmqpSettings)
        logging.getLogger("quixstreams").handlers.clear()  # it has a log format of its own
        logging.getLogger("quixstreams").propagate = True
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # `_keep_consuming` logs what happened
        tolerate(decode.METHODS)
        if self._kafka.embedded:
            self._throttle = Throttle(self._kafka, self._group, self._partitions)
        self._watch = ClockWatch(self._clock)
        uvloop.run(self._keep_consuming())

    async def _keep_consuming(self) -> None:
        retry, longest = RETRY
        while self._active():
            try:
                connection = await aio_pika.connect(self._settings.address, timeout=5)
            except LOST as error:
                self._set_lost(error)
            else:
                retry = RETRY[0]
                try:
                    await self._consume(connection)
                except LOST as error:
                    self._set_lost(error)
                finally:
                    with contextlib.suppress(*LOST):
                        await asyncio.wait_for(connection.close(), CLOSE_TIMEOUT)
            await asyncio.sleep(retry if self._active() else 0)
            retry = min(2 * retry, longest)

    def _set_lost(self, error: BaseException) -> None:
        """Say once why there is no session."""
        if isinstance(error, SessionLostError):
            what = "session with RabbitMQ lost"
        else:
            what = "RabbitMQ refuses" if isinstance(error, AMQPChannelError) else "RabbitMQ is unreachable"
        text = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        reason = f"{what}: {text}"
        if self._status.problem is None or reason not in self._status.problem:
            log.warning("%s", reason)
        self._status.set_waiting(reason)

    async def _consume(self, connection: AbstractConnection) -> None:
        """Consume over one channel until it closes."""
        queues = self._status.queues
        await declare(connection, self._settings.queue_type, [queue for queue in queues if not is_own(queue)])
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        # aiormq, the layer below aio-pika: one message object and one task less per size
        below = await channel.get_underlay_channel()
        assert isinstance(below, Channel)
        arrived: asyncio.Queue[Arrival] = asyncio.Queue()
        inputs = [Input(queue, arrived, self._clock.now()) for queue in queues]
        for each in inputs:
            # of each consumer that begins from now on
            await below.basic_qos(prefetch_count=PREFETCH_BATCHES if each.batches else PREFETCH)
            await below.basic_consume(each.queue, each.receive)
        log.info("consuming %s", ", ".join(queues))
        next_watermark = next_look = 0.0
        while self._active():
            if below.is_closed:
                raise ConnectionError("the channel was closed")
            if len(below.consumers) < len(inputs):
                raise SessionLostError("a queue was deleted, or its consumer cancelled")
            batch = await _collect(arrived)
            last = await self._forward(batch, below)
            if (now := time.monotonic()) >= next_watermark:
                next_watermark = now + WATERMARK_INTERVAL
                self._watch_clocks()
                self._emit_watermark(low_watermark((each.clock for each in inputs), self._clock.now()))
            if last and await self._flushed():
                await below.basic_ack(last, multiple=True)
                for each in {origin for origin, _ in batch}:
                    each.clock.acknowledge(self._clock.now())
            if (now := time.monotonic()) >= next_look:
                next_look = now + LOOK_INTERVAL
                for each in inputs:
                    await each.look(below, self._clock.now())
            if problem := next((each.problem for each in inputs if each.problem), None):
                self._status.set_waiting(problem)
            else:
                self._status.set_consuming()

    async def _forward(self, messages: list[Arrival], channel: Channel) -> int:
        """Produce messages to Kafka; return the last delivery tag to acknowledge after a flush, 0: none."""
        last, arrival = 0, self._clock.now()
        batches: list[tuple[int, int, BatchSums]] = []
        sizes: list[Size] = []
        forgotten: list[Forget] = []
        consumed: Counter[Input] = Counter()
        unreadable = []
        for origin, message in messages:
            assert message.delivery_tag
            if origin.is_copy(message):
                origin.clock.observe(0, arrival)
                self._status.count(origin.queue, copies=1)
            else:
                try:
                    if origin.forgets:
                        forgotten.append(kafka_records.forget(amqp_forgotten.decode(message.body), arrival))
                        at, payloads = 0, 1
                    elif origin.batches:
                        at, payloads = self._add_batch(message, arrival, batches)
                    else:
                        size = decode_size(message)
                        sizes.append(kafka_records.size(size, arrival))
                        at, payloads = arrival if size.at is None else size.at, 1
                except UnreadableError as error:
                    log.warning("message %s rejected: %s", message.header.properties.message_id, error)
                    origin.clock.observe(0, arrival)
                    unreadable.append(Arrival(origin, message))
                    if origin.own:
                        continue
                else:
                    if not origin.forgets:
                        self._times.add(at, payloads, arrival)
                    origin.clock.observe(min(at, arrival), arrival)
                    consumed[origin] += payloads
            last = message.delivery_tag
        # before anything is produced: if it fails, all are redelivered, and some have no id
        if not await self._rejected(unreadable, channel):
            return 0
        for partition, _, value in kafka_records.group_encoded(arrival, batches):
            if not await self._produced(value, kafka_records.BATCHES_KEY, partition, arrival):
                return 0
        for bucket, group in kafka_records.singles(sizes):
            value = kafka_records.encode(kafka_records.Singles(arrival, group))
            at = max(size.at for size in group)
            if not await self._produced(value, str(bucket), bucket % self._partitions, at):
                return 0
        for each in forgotten:
            value = kafka_records.encode(each)
            if not await self._produced(value, kafka_records.FORGET_KEY, 0, arrival):
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
                tasks.append(asyncio.create_task(publish_dead(channel, origin.queue, message)))
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
        """Add up a message that is a batch; return its time and its payloads."""
        batch = amqp_batches.decode(message.body)
        message_id = message.header.properties.message_id
        at = min(batch.at, arrival)
        partition = kafka_records.partition_of(message_id, self._partitions)
        to += [(partition, at - at % BASE, each) for each in kafka_records.batch_sums(message_id, batch)]
        return batch.at, sum([span.payloads for span in batch.spans])

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

    def _watch_clocks(self) -> None:
        """Compare this clock with the wall clock and with the times of messages."""
        times, self._times = self._times, MessageTimes()
        self._watch.compare(times.newest)
        self._status.count_ahead(times.ahead)
        if times.ahead and time.monotonic() >= self._next_reminder:
            self._next_reminder = time.monotonic() + REMINDER
            log.warning(
                "times of sizes up to %.0f s ahead of this clock: they count when they arrive",
                times.furthest / 1000,
            )

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
