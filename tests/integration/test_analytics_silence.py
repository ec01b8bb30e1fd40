"""Analytics is not ready while a part of it makes no progress, says why, and goes on by itself."""

import json
import signal
from collections.abc import AsyncIterator

import aio_pika
import pytest

from cloudmatch_bus.contract import amqp, amqp_batches
from harness import Service, eventually
from harness.analytics import Publisher, publishing, sums

CLOSES = 30  # s within which a 10 s window must close
NOTICED = 15  # s within which readiness must be false


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[Publisher]:
    async with publishing(amqp_url) as made:
        yield made


@pytest.fixture
def analytics(kafka_broker, amqp_url, publisher, start) -> Service:
    """Analytics, ready."""
    return start("analytics", {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}, deadline=60)


def reason(service: Service, part: str) -> str:
    """Why a part of the service is not ready; empty if it is."""
    reasons: dict[str, str] = json.loads(service.get("/system/readiness")[1])["reasons"]
    return reasons.get(part, "")


async def test_queues_that_are_deleted_and_declared_with_the_other_type_are_consumed(
    analytics, amqp_url, publisher
):
    await publisher.batch({"alice": [4]}, ago=20)
    await eventually(lambda: sums(analytics) == (4, 1), CLOSES)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(amqp_batches.QUEUE)
        await channel.queue_delete(amqp.QUEUE)
        arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": amqp_batches.DEAD_QUEUE}
        queue = await channel.declare_queue(amqp_batches.QUEUE, durable=True, arguments=arguments)
        await queue.bind(amqp_batches.EXCHANGE, "#")
        await publisher.batch({"alice": [5]}, ago=20)
    await eventually(lambda: sums(analytics) == (9, 2), CLOSES)
    await publisher.batch({"alice": [6]}, ago=20)
    await eventually(lambda: sums(analytics) == (15, 3), CLOSES)
    # whichever it notices first: a consumer less, or that there is no such queue
    said = ("session with RabbitMQ lost", "RabbitMQ refuses: NOT_FOUND")
    assert any(each in analytics.process.log for each in said)
    assert f"{amqp_batches.QUEUE} is quorum, not classic" in analytics.process.log
    assert analytics.get("/system/readiness")[0] == 200


async def test_a_frozen_kafka_is_noticed_and_nothing_is_lost(analytics, publisher, kafka_broker):
    kafka_broker.process.signal(signal.SIGSTOP)
    try:
        await publisher.batch({"alice": [4]}, ago=20)
        await eventually(lambda: reason(analytics, "pipeline") or reason(analytics, "source"), NOTICED)
        assert analytics.get("/windows")[0] == 200
    finally:
        kafka_broker.process.signal(signal.SIGCONT)
    await eventually(lambda: sums(analytics) == (4, 1), CLOSES)
    await eventually(lambda: analytics.get("/system/readiness")[0] == 200, CLOSES)


async def test_a_frozen_rabbitmq_is_noticed_and_closes_no_window_over_its_messages(
    kafka_broker, own_rabbitmq, start
):
    analytics = start(
        "analytics", {"CLOUDMATCH_AMQP_URL": own_rabbitmq.url, **kafka_broker.settings}, deadline=60
    )
    own_rabbitmq.process.signal(signal.SIGSTOP)
    try:
        await eventually(lambda: "no answer" in reason(analytics, "source"), NOTICED)
    finally:
        own_rabbitmq.process.signal(signal.SIGCONT)
    async with publishing(own_rabbitmq.url) as publisher:
        await publisher.batch({"alice": [4]}, ago=20)
        await eventually(lambda: sums(analytics) == (4, 1), CLOSES)
    await eventually(lambda: analytics.get("/system/readiness")[0] == 200, CLOSES)
