"""Batches count once whoever sends them again, beside what a former version has counted, on real servers."""

import asyncio
import contextlib
import sqlite3
import time

import pytest
from aio_pika.exceptions import AMQPError
from confluent_kafka import Producer

from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import SliceSums, encode
from cloudmatch_analytics.core.windows import Bounds, Row
from cloudmatch_bus.contract import amqp_batches
from harness import eventually
from harness.analytics import publishing, sums

CLOSES = 30  # s within which a 10 s window must close
BATCHES = {f"{number}": {f"d{number % 7}": [number, 1], "d9": [2]} for number in range(300)}
SENT = sum(range(300)) + 3 * 300, 3 * 300


def settings(amqp_url, broker):
    return {"CLOUDMATCH_AMQP_URL": amqp_url, **broker.settings}


async def publish(url, at):
    """Publish all batches, as a bridge that begins again does."""
    async with publishing(url) as publisher:
        for message_id, sizes in BATCHES.items():
            await publisher.batch(sizes, at=at, message_id=message_id)


async def test_batches_count_once_through_the_death_of_rabbitmq(kafka_broker, own_rabbitmq, start):
    analytics = start("analytics", settings(own_rabbitmq.url, kafka_broker), deadline=60)
    at = time.time_ns() // 10**6 - 30_000
    publishes = asyncio.create_task(publish(own_rabbitmq.url, at))
    await eventually(lambda: analytics.metric("cloudmatch_analytics_messages_total") > 50, 20)
    await asyncio.to_thread(own_rabbitmq.kill)
    publishes.cancel()
    with contextlib.suppress(asyncio.CancelledError, AMQPError, OSError):
        await publishes
    await asyncio.to_thread(own_rabbitmq.restart)
    for _ in range(2):
        await publish(own_rabbitmq.url, at)
    await eventually(lambda: sums(analytics) == SENT, CLOSES)
    assert sums(analytics, "app=demo&device=d9") == (600, 300)


async def test_batches_count_once_while_rabbitmq_is_blocked(kafka_broker, own_rabbitmq, start):
    analytics = start("analytics", settings(own_rabbitmq.url, kafka_broker), deadline=60)
    at = time.time_ns() // 10**6 - 30_000
    await publish(own_rabbitmq.url, at)
    watermark = "set_vm_memory_high_watermark"
    await asyncio.to_thread(own_rabbitmq.control, watermark, "absolute", "1")
    try:
        await eventually(lambda: sums(analytics) == SENT, CLOSES)  # it delivers, and accepts nothing
    finally:
        await asyncio.to_thread(own_rabbitmq.control, watermark, "absolute", "512MB")
    await publish(own_rabbitmq.url, at)

    async def acknowledged():
        async with publishing(own_rabbitmq.url) as publisher:
            queue = await publisher.channel.declare_queue(amqp_batches.QUEUE, passive=True)
        return not queue.declaration_result.message_count

    await eventually(lambda: analytics.metric("cloudmatch_analytics_duplicates_total") == 900, 20)
    await eventually(acknowledged, 20)
    assert sums(analytics) == SENT


async def test_sums_of_a_former_version_continue(kafka_broker, amqp_url, start, tmp_path, request):
    if request.config.getoption("--kafka"):
        pytest.skip("writes results as a former version did, to topics that the embedded broker creates")
    begin = time.time_ns() // 10**6 // 10_000 * 10_000 - 60_000
    former = {"demo.alice": (10, 2), "demo.bob": (1, 1)}
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap})
    producer.produce("cloudmatch.windows", encode(SliceSums(begin, former)), "0")
    assert producer.flush(10) == 0
    analytics = start("analytics", settings(amqp_url, kafka_broker), deadline=60)
    async with publishing(amqp_url) as publisher:
        await publisher.batch({"alice": [5, 5]}, at=begin + 1)
        await publisher.size(7, sender="bob", at=begin + 1)
        await eventually(lambda: sums(analytics) == (28, 6), CLOSES)
        assert sums(analytics, "app=demo&device=alice") == (20, 4)
        await asyncio.to_thread(analytics.terminate)

        file = analytics.folder / "run/analytics/slices.sqlite"
        with contextlib.closing(sqlite3.connect(file)) as archive, archive:
            assert archive.execute("SELECT bytes FROM sums WHERE key = 'demo.alice'").fetchall() == [(20,)]
            archive.execute("DROP TABLE added")  # as a former version left it: nothing was added yet
            archive.execute("DELETE FROM places")
            archive.execute("DELETE FROM sums")
            archive.execute("DELETE FROM kept")
        archive = Archive(file)
        rows = [Row(begin, series, 11, 3) for series in ("", "demo")]
        senders = [Row(begin, series, *sent) for series, sent in former.items()]
        archive.save([*rows, *senders], Bounds(begin + 10_000, begin), "a former broker", {}, {})
        archive.close()
        await publisher.batch({"alice": [1]}, at=begin + 1)
        await asyncio.to_thread(analytics.start, deadline=60)
        await eventually(lambda: sums(analytics) == (29, 7), CLOSES)
        assert sums(analytics, "app=demo&device=alice") == (21, 5)
