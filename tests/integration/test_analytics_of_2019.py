"""Producers of 2019: analytics counts what they write to queues of their own, on real servers."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPError

from cloudmatch_bus.contract import amqp
from harness import RabbitMQ, Service, eventually
from harness.amqp import OLD_QUEUE, OldProducer, declare_as_in_2019, old_producer
from harness.analytics import Publisher, publishing, sums

CLOSES = 30  # s within which a 10 s window must close
MESSAGES = "cloudmatch_analytics_messages_total"
LATE = "cloudmatch_analytics_late_total"

Begin = Callable[[], Service]


@pytest.fixture
def begin(kafka_broker: Any, amqp_url: str, start: Callable[..., Service]) -> Begin:
    """Start an instance of analytics that reads the queue of 2019, too."""
    settings = {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}
    settings["CLOUDMATCH_ANALYTICS_INPUT_QUEUES"] = OLD_QUEUE
    return lambda: start("analytics", settings, deadline=60)


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[Publisher]:
    async with publishing(amqp_url) as made:
        yield made


@pytest.fixture
async def producer(amqp_url: str) -> AsyncIterator[OldProducer]:
    async with old_producer(amqp_url) as made:
        yield made


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


def of_queue(service: Service, metric: str, queue: str) -> float:
    """A metric of one queue."""
    found = re.search(rf'^{metric}{{queue="{queue}"}} (\S+)', service.get("/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else 0


async def agree(what: Callable[[], tuple[int, int]], total: int, count: int) -> None:
    """Return once these bytes and messages are counted."""
    try:
        await eventually(lambda: what() == (total, count), CLOSES)
    except AssertionError as error:
        error.add_note(f"sent {total} bytes in {count}, counted {what()}")
        raise


async def windows_agree(service: Service, total: int, count: int, query: str = "") -> None:
    """Return once the closed windows add up to this."""
    await agree(lambda: sums(service, query), total, count)


async def counts_agree(service: Service, total: int, count: int) -> None:
    """Return once this is counted in any window."""

    def counted() -> tuple[int, int]:
        senders = service.get_json("/senders")
        return sum(s["bytes"] for s in senders), sum(s["messages"] for s in senders)

    await agree(counted, total, count)


async def test_bodies_alone_are_counted_over_a_restart_beside_the_sizes_of_the_bridge(
    begin: Begin, producer: OldProducer, publisher: Publisher, channel: AbstractChannel
) -> None:
    for number in range(500):  # before analytics has ever run
        await producer.size(number)
    analytics = begin()
    await declare_as_in_2019(channel)

    async def produce() -> None:
        while not stop.is_set():
            await producer.size(producer.count % 90)
            await asyncio.sleep(0.003)

    stop = asyncio.Event()
    producing = asyncio.create_task(produce())
    await publisher.size(7)
    await eventually(lambda: of_queue(analytics, MESSAGES, OLD_QUEUE) > 600, 20)
    assert of_queue(analytics, MESSAGES, amqp.QUEUE) == 1
    await asyncio.to_thread(analytics.restart, deadline=60)
    await eventually(lambda: of_queue(analytics, MESSAGES, OLD_QUEUE) > 100, 20)
    stop.set()
    await producing
    await windows_agree(analytics, producer.total, producer.count, "app=default")
    await windows_agree(analytics, 7, 1, "app=demo")
    assert (await channel.declare_queue(OLD_QUEUE, passive=True)).declaration_result.message_count == 0


async def test_a_window_closes_though_the_input_queue_is_empty_or_has_no_producer(
    begin: Begin, publisher: Publisher, channel: AbstractChannel
) -> None:
    analytics = begin()
    await declare_as_in_2019(channel)  # analytics has declared it, in the same way
    await publisher.size(4)
    await windows_agree(analytics, 4, 1)


@pytest.mark.parametrize("backlog", ["own", "input"])
async def test_fresh_sizes_of_one_queue_close_no_window_over_the_backlog_of_the_other(
    begin: Begin, producer: OldProducer, publisher: Publisher, backlog: str
) -> None:
    old = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)

    async def refresh() -> None:
        while not stop.is_set():
            await (producer.size(1) if backlog == "own" else publisher.size(1))
            await asyncio.sleep(0.01)

    sent = 3_000  # more than the source takes at once
    for number in range(sent):  # fifty windows, newest last
        at = old + timedelta(seconds=number // 6)
        if backlog == "own":
            await publisher.size(1, at=int(at.timestamp() * 1000), app="backlog", sender=f"d{number % 9}")
        else:
            await producer.body(b"1", timestamp=at, headers={"app": "backlog", "from": f"d{number % 9}"})
    await producer.sent()
    stop = asyncio.Event()
    refreshing = asyncio.create_task(refresh())
    analytics = begin()
    await windows_agree(analytics, sent, sent, "app=backlog")
    stop.set()
    await refreshing
    assert analytics.metric(LATE) == 0


async def test_an_unreadable_body_becomes_a_dead_letter_once_and_can_be_replayed(
    begin: Begin, producer: OldProducer, publisher: Publisher, amqp_url: str, tmp_path: Path
) -> None:
    analytics = begin()
    dead = await publisher.channel.get_queue(amqp.DEAD_QUEUE)

    async def letters() -> int | None:
        queue = await publisher.channel.declare_queue(amqp.DEAD_QUEUE, passive=True)
        return queue.declaration_result.message_count

    await producer.body(b"four")
    await producer.size(4)
    more = {"expiration": "60000", "correlation_id": "c", "headers": {"x": bytearray(b"\xff"), "app": 5}}
    await producer.body(b"5", **more)
    await producer.size(6)
    await counts_agree(analytics, 10, 2)

    async def two() -> bool:
        return await letters() == 2

    await eventually(two)
    assert of_queue(analytics, "cloudmatch_analytics_rejected_total", OLD_QUEUE) == 2
    commands = Service("bridge-rabbit", {"CLOUDMATCH_AMQP_URL": amqp_url}, tmp_path)
    shown = await asyncio.to_thread(commands.ask, "dead-letters")
    assert "four" in shown.stdout
    assert shown.stdout.count("rejected") == 2
    # replayed to the queue of analytics, they are rejected there
    moved = await asyncio.to_thread(commands.ask, "replay")
    assert moved.stderr == "moved 2 dead letters\n"
    await eventually(lambda: of_queue(analytics, "cloudmatch_analytics_rejected_total", amqp.QUEUE) == 2)
    await eventually(two)
    first, second = [await dead.get(no_ack=True) for _ in range(2)]
    assert (first.body, second.body, second.correlation_id) == (b"four", b"5", "c")
    assert (first.routing_key, second.expiration, second.delivery_mode) == (amqp.QUEUE, None, 2)
    assert (second.headers["x"], second.headers["app"]) == (bytearray(b"\xff"), 5)
    await counts_agree(analytics, 10, 2)


async def test_dead_letters_wait_until_there_is_a_queue_for_them(
    begin: Begin, producer: OldProducer, publisher: Publisher
) -> None:
    analytics = begin()
    await publisher.channel.queue_delete(amqp.DEAD_QUEUE)
    await producer.body(b"four")
    await producer.size(4)
    await counts_agree(analytics, 4, 1)
    dead = await publisher.channel.get_queue(amqp.DEAD_QUEUE)
    message = await eventually(lambda: dead.get(no_ack=True, fail=False))
    assert message.body == b"four"


async def test_while_rabbitmq_accepts_nothing_dead_letters_wait_and_nothing_counts_twice(
    kafka_broker: Any, amqp_url: str, rabbitmq: RabbitMQ, start: Callable[..., Service]
) -> None:
    async with old_producer(amqp_url) as producer:
        await producer.size(3)
        await producer.body(b"four")
        await producer.size(4)
    settings = {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}
    settings["CLOUDMATCH_ANALYTICS_INPUT_QUEUES"] = OLD_QUEUE
    watermark = "set_vm_memory_high_watermark"
    await asyncio.to_thread(rabbitmq.control, watermark, "absolute", "1")
    try:
        analytics = start("analytics", settings, ready=False)
        await eventually(lambda: "not confirm dead letters" in analytics.get("/system/readiness")[1], 40)
    finally:
        await asyncio.to_thread(rabbitmq.control, watermark, "absolute", "512MB")
    await counts_agree(analytics, 7, 2)
    await asyncio.to_thread(analytics.wait_ready)
    assert of_queue(analytics, "cloudmatch_analytics_rejected_total", OLD_QUEUE) == 1


async def test_two_instances_share_an_input_queue(begin: Begin, producer: OldProducer) -> None:
    both = begin(), begin()

    async def shared() -> bool:
        await producer.size(producer.count % 90)
        return min(of_queue(each, MESSAGES, OLD_QUEUE) for each in both) > 20

    await eventually(shared, 20)
    for each in both:
        await counts_agree(each, producer.total, producer.count)


async def test_a_queue_that_the_bridge_fills_as_well_is_not_counted_twice(
    begin: Begin, producer: OldProducer, publisher: Publisher, channel: AbstractChannel
) -> None:
    queue = await channel.get_queue(OLD_QUEUE)
    await queue.bind(amqp.EXCHANGE, "#")
    for number in range(100):
        await publisher.size(number)
    await publisher.raw(b"50")  # without an id
    await producer.size(3)
    analytics = begin()
    await counts_agree(analytics, sum(range(100)) + 53, 102)
    assert of_queue(analytics, "cloudmatch_analytics_copies_total", OLD_QUEUE) == 101
    assert analytics.logs().count(f"queue {OLD_QUEUE} gets what bridge-rabbit publishes") == 1


async def test_the_same_message_in_both_queues_counts_once(
    begin: Begin, producer: OldProducer, publisher: Publisher
) -> None:
    analytics = begin()
    at = await publisher.size(4, message_id="7.0")
    headers = {"app": "demo", "from": "alice", "at": at}
    await producer.body(b"4", message_id="7.0", headers=headers)
    await eventually(lambda: analytics.metric(MESSAGES) == 2)
    await counts_agree(analytics, 4, 1)


async def test_an_existing_queue_with_other_properties_is_read_as_it_is(
    begin: Begin, publisher: Publisher, channel: AbstractChannel
) -> None:
    await channel.declare_queue(OLD_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    analytics = begin()
    await channel.default_exchange.publish(aio_pika.Message(b"4"), OLD_QUEUE)
    await counts_agree(analytics, 4, 1)


async def test_an_input_queue_that_is_deleted_is_declared_and_read_again(
    begin: Begin, channel: AbstractChannel, amqp_url: str
) -> None:
    analytics = begin()
    await channel.queue_delete(OLD_QUEUE)

    async def declared() -> bool:
        async with await aio_pika.connect(amqp_url) as connection:
            with contextlib.suppress(AMQPError):
                await (await connection.channel()).declare_queue(OLD_QUEUE, passive=True)
                return True
        return False

    await eventually(declared, 20)
    async with old_producer(amqp_url) as producer:
        await producer.size(4)
    await counts_agree(analytics, 4, 1)


async def test_readiness_gives_the_reason_while_an_input_queue_is_another_connections_own(
    amqp_url: str, kafka_broker: Any, start: Callable[..., Service]
) -> None:
    settings = {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}
    settings["CLOUDMATCH_ANALYTICS_INPUT_QUEUES"] = OLD_QUEUE
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(OLD_QUEUE, exclusive=True)
        analytics = start("analytics", settings, ready=False)

        def refused() -> bool:
            status, text = analytics.get("/system/readiness")
            return status == 503 and f"locked queue '{OLD_QUEUE}'" in json.loads(text)["reasons"]["source"]

        await eventually(refused, 30)
    await asyncio.to_thread(analytics.wait_ready, 60)
