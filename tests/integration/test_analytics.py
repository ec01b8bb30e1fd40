"""Analytics from RabbitMQ to REST, with real parts."""

import asyncio
import time
from collections.abc import AsyncIterator

import aio_pika
import pytest

from cloudmatch_bus import amqp
from harness import eventually

pytestmark = pytest.mark.servers


class Publisher:
    """Publishes sizes as bridge-rabbit does."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel, exchange: aio_pika.abc.AbstractExchange):
        self.channel, self.exchange = channel, exchange
        self.position = 0

    async def size(self, body, *, sender="alice", app="demo", at=None, message_id=None):
        """Publish one size, of now."""
        self.position += 1
        headers = {"app": app, "from": sender, "to": "bob", "match": 7, "at": at or time.time_ns() // 10**6}
        await self.raw(str(body).encode(), headers, message_id or f"{self.position}.0")

    async def raw(self, body, headers=None, message_id=None):
        """Publish a body as it is."""
        message = aio_pika.Message(
            body, headers=headers, message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        await self.exchange.publish(message, routing_key="demo.alice")


@pytest.fixture
async def publisher(amqp_url) -> AsyncIterator[Publisher]:
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(amqp.EXCHANGE, "topic", durable=True)
        yield Publisher(channel, exchange)


@pytest.fixture
def analytics(kafka_broker, amqp_url, start):
    settings = {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": kafka_broker.bootstrap.rpartition(":")[2]}
    return start("analytics", settings)


def closed(service, query):
    """The closed windows in which something was exchanged."""
    return [w for w in service.get_json(f"/windows?{query}") if w["messages"]]


async def test_four_bytes_show_in_the_window_that_closes_though_nothing_follows(analytics, publisher):
    await publisher.size(4)
    found = await eventually(lambda: closed(analytics, "size=10s"), 15)
    seen = time.time()
    assert [(w["bytes"], w["messages"]) for w in found] == [(4, 1)]
    late = seen - found[0]["end"] / 1000
    print("late", late)
    assert 0.9 < late < 2.5
    assert "bytes exchanged in the previous 10 seconds: 4" in analytics.process.log
