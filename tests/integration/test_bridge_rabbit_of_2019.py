"""Consumers of 2019 beside analytics: the bridge's plain queues, on real servers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

import harness
from cloudmatch_bus.contract import amqp
from harness import NatsServer, Service, eventually
from harness.amqp import OLD_QUEUE, OldConsumer, arriving, declare_as_in_2019, old_consumer, sizes
from harness.facts import facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]


def bridge(start: Start, nats: NatsServer, amqp_url: str) -> Service:
    settings = {
        "CLOUDMATCH_NATS_URL": nats.url,
        "CLOUDMATCH_AMQP_URL": amqp_url,
        "CLOUDMATCH_BRIDGE_RABBIT_QUEUES": OLD_QUEUE,
    }
    return start("bridge-rabbit", settings)


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


async def length(url: str) -> int | None:
    """Messages in the queue of 2019; None if there is no such queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        try:
            queue = await channel.declare_queue(OLD_QUEUE, passive=True)
        except ChannelNotFoundEntity:
            return None
        return queue.declaration_result.message_count


async def test_a_consumer_of_2019_counts_every_byte_once_through_kills_of_bridge_and_itself(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    chance = random.Random(2019)  # noqa: S311 # no secret
    service = bridge(start, nats_server, amqp_url)
    sent = 0
    async with facts(nats_server.url) as bus:

        async def publish(batches: int) -> int:
            total = 0
            for _ in range(batches):
                sizes = [chance.randrange(2000) for _ in range(20)]
                bus.payloads(*sizes)
                total += sum(sizes)
                await asyncio.sleep(0.002)
            return total

        consumer = OldConsumer(amqp_url)
        await consumer.connect()  # it dies before its first checkpoint
        sent += await publish(20)
        await eventually(lambda: len(consumer.seen) >= 200, 20)
        await consumer.close()
        async with old_consumer(amqp_url) as again:
            again.seen = dict(consumer.seen)  # as Flink restores it
            for _ in range(3):
                publishing = asyncio.create_task(publish(100))
                await asyncio.sleep(chance.random() / 5)
                service.kill()
                sent += await publishing
                await asyncio.to_thread(service.restart)
            await bus.kept()
            await eventually(lambda: again.total == sent, 30, f"{sent} bytes")
            await eventually(lambda: again.dropped >= 200, 10)  # those that it had not acknowledged
            assert len(again.seen) == 20 * bus.count


@pytest.mark.parametrize("first", ["consumer", "bridge"])
async def test_the_declaration_of_2019_agrees_with_the_bridges_in_either_order(
    nats_server: NatsServer, amqp_url: str, channel: AbstractChannel, start: Start, first: str
) -> None:
    if first == "consumer":
        await declare_as_in_2019(channel)
    bridge(start, nats_server, amqp_url)
    await declare_as_in_2019(channel)
    async with facts(nats_server.url) as bus:
        bus.payloads(4)
        async with old_consumer(amqp_url) as consumer:
            await eventually(lambda: consumer.total == 4)


async def test_an_existing_queue_with_other_properties_gets_the_sizes_as_it_is(
    nats_server: NatsServer, amqp_url: str, channel: AbstractChannel, start: Start
) -> None:
    queue = await channel.declare_queue(OLD_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus:
        bus.payloads(4)
        message = await eventually(lambda: queue.get(no_ack=True, fail=False))
    assert (message.body, message.correlation_id) == (b"4", message.message_id)


async def test_a_limit_by_policy_drops_the_oldest_sizes_of_that_queue_alone(
    nats_server: NatsServer, amqp_url: str, rabbitmq: harness.RabbitMQ, channel: AbstractChannel, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    limit = '{"max-length":2,"message-ttl":86400000}'
    policy = ("old", f"^{OLD_QUEUE}$", limit, "--apply-to", "queues")
    await asyncio.to_thread(rabbitmq.control, "set_policy", *policy)
    try:
        async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
            bus.payloads(1, 2, 3, 4, 5)
            await eventually(lambda: sizes(messages) == [1, 2, 3, 4, 5])
            await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_singles_total") == 5)
            async with old_consumer(amqp_url) as consumer:  # its declaration still agrees
                await eventually(lambda: consumer.total == 4 + 5)
    finally:
        await asyncio.to_thread(rabbitmq.control, "clear_policy", "old")


async def test_a_queue_that_is_deleted_meanwhile_is_declared_and_bound_again(
    nats_server: NatsServer, amqp_url: str, channel: AbstractChannel, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    await channel.queue_delete(OLD_QUEUE)
    await declare_as_in_2019(channel)  # by its consumer, which knows nothing of exchanges
    async with facts(nats_server.url) as bus:

        async def arrives() -> bool:
            bus.payloads(4)
            return bool(await length(amqp_url))

        await eventually(arrives, 15)
    assert service.metric("cloudmatch_bridge_rabbit_connections_total") == 2  # batches, singles


async def test_queues_are_declared_again_after_rabbitmq_was_reset(
    nats_server: NatsServer, own_rabbitmq: harness.RabbitMQ, start: Start
) -> None:
    service = bridge(start, nats_server, own_rabbitmq.url)
    for command in ("stop_app", "reset", "start_app"):
        await asyncio.to_thread(own_rabbitmq.control, command)
    await asyncio.to_thread(service.wait_ready, 30)
    async with facts(nats_server.url) as bus, old_consumer(own_rabbitmq.url) as consumer:
        bus.payloads(4)
        await eventually(lambda: consumer.total == 4, 20)


async def test_readiness_gives_the_reason_while_a_queue_belongs_to_another_connection(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(OLD_QUEUE, exclusive=True)
        settings = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_AMQP_URL": amqp_url}
        settings["CLOUDMATCH_BRIDGE_RABBIT_QUEUES"] = OLD_QUEUE
        service = start("bridge-rabbit", settings, ready=False)
        await eventually(lambda: f"locked queue '{OLD_QUEUE}'" in service.get("/system/readiness")[1], 20)
    await asyncio.to_thread(service.wait_ready)
    assert await length(amqp_url) == 0


async def test_without_the_setting_no_queue_of_2019_is_made(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    start("bridge-rabbit", {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_AMQP_URL": amqp_url})
    assert await length(amqp_url) is None


async def test_a_queue_that_cannot_be_used_ends_the_bridge_with_the_name_of_the_setting(
    nats_server: NatsServer, start: Start
) -> None:
    settings = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_BRIDGE_RABBIT_QUEUES": amqp.QUEUE}
    service = start("bridge-rabbit", {"CLOUDMATCH_NATS_URL": nats_server.url}, ready=False)
    service.env |= settings
    answer = await asyncio.to_thread(service.ask)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"CLOUDMATCH_BRIDGE_RABBIT_QUEUES: '{amqp.QUEUE}' begins with")
