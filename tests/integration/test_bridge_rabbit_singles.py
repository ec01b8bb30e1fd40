"""One message per payload beside the batches: on, off, held up, behind, beside a former bridge."""

import asyncio
import time
from collections.abc import Callable

import aio_pika
import nats.js.errors
import pytest
from aio_pika.abc import AbstractChannel

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.contract import amqp, streams, subjects
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.deliveries import Span
from cloudmatch_bus.contract.messages import DeliveriesCounted, PayloadsDelivered, encode
from harness import KafkaBroker, NatsServer, Service, eventually
from harness.amqp import arriving, arriving_singles, sizes
from harness.analytics import sums
from harness.facts import Facts, facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]
PENDING = "cloudmatch_bridge_rabbit_singles_pending"
LAG = "cloudmatch_bridge_rabbit_singles_lag_seconds"
SINGLES = "cloudmatch_bridge_rabbit_singles_total"


def bridge(start: Start, nats: NatsServer, amqp_url: str, *, singles: bool = True) -> Service:
    settings = {
        "CLOUDMATCH_NATS_URL": nats.url,
        "CLOUDMATCH_AMQP_URL": amqp_url,
        "CLOUDMATCH_BRIDGE_RABBIT_SINGLES": str(singles).lower(),
    }
    return start("bridge-rabbit", settings)


async def full_queue(channel: AbstractChannel) -> str:
    """Bind a queue that refuses everything but one message; return its name."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = await channel.declare_queue("full", durable=True, arguments=arguments)
    await queue.bind(amqp.EXCHANGE, "#")
    return queue.name


async def exists(bus: Bus, consumer: str) -> bool:
    try:
        await bus.jetstream().consumer_info(streams.EVENTS, consumer)
    except nats.js.errors.NotFoundError:
        return False
    return True


async def test_singles_that_are_refused_hold_up_no_batch_and_come_once_they_are_accepted(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with (
        facts(nats_server.url) as bus,
        arriving(amqp_url) as messages,
        arriving_singles(amqp_url) as singles,
        await aio_pika.connect(amqp_url) as connection,
    ):
        channel = await connection.channel()
        full = await full_queue(channel)
        for number in range(500):
            bus.payloads(number, 7)
        await bus.kept()
        await eventually(lambda: len(messages) == 500)
        answers = set()

        def behind() -> bool:
            answers.add(service.get("/system/readiness"))
            return service.metric(PENDING) > 0 and service.metric(LAG) > 3

        await eventually(behind, 20)
        assert [status for status, _ in answers] == [200], answers
        bus.payloads(1000)
        await eventually(lambda: len(messages) == 501)
        assert service.metric(PENDING) > 0
        await channel.queue_delete(full)
        await eventually(lambda: len({str(m.message_id) for m in singles}) == 1001, 20)
        await eventually(lambda: service.metric(PENDING) == service.metric(LAG) == 0)
        assert await asyncio.to_thread(lambda: service.get("/system/readiness")[0]) == 200
    bodies = {str(m.message_id): int(m.body) for m in singles}
    assert all(bodies[str(m.message_id)] == int(m.body) for m in singles)
    assert sum(bodies.values()) == sum(sizes(messages)) == sum(range(500)) + 500 * 7 + 1000
    assert len(messages) == 501


async def test_singles_that_nobody_takes_are_confirmed_and_counted(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus:
        for _ in range(100):
            bus.payloads(*range(20))
        await eventually(lambda: service.metric(SINGLES) == 2000)
        await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_confirmed_total") == 2000)
    assert service.metric("cloudmatch_bridge_rabbit_failed_total") == 0


async def test_singles_begin_with_what_comes_after_they_were_turned_on_and_end_with_their_consumer(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    off = bridge(start, nats_server, amqp_url, singles=False)
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        bus.payloads(1)
        await eventually(lambda: len(messages) == 1)
        assert not await exists(bus.bus, streams.SINGLES)
        off.terminate()
        on = bridge(start, nats_server, amqp_url)
        async with arriving_singles(amqp_url) as singles:
            bus.payloads(2)
            await eventually(lambda: [m.body for m in singles] == [b"2"])
            # while settings are rolled out, one that is on makes the consumer again
            await bus.bus.jetstream().delete_consumer(streams.EVENTS, streams.SINGLES)
            await eventually(lambda: exists(bus.bus, streams.SINGLES))
            bus.payloads(3)
            await eventually(lambda: [m.body for m in singles] == [b"2", b"3"])
        await asyncio.to_thread(on.terminate)
        await asyncio.to_thread(off.restart)
        await eventually(lambda: gone(bus.bus))
        bus.payloads(4)
        await eventually(lambda: sizes(messages) == [1, 2, 3, 4])
        assert off.metric(SINGLES) == 0


async def gone(bus: Bus) -> bool:
    return not await exists(bus, streams.SINGLES)


async def test_a_restart_continues_the_singles_where_the_bridge_stopped(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus, arriving_singles(amqp_url) as singles:
        for number in range(1000):
            bus.payloads(number)
        await eventually(lambda: singles)
        await asyncio.to_thread(service.terminate)
        await asyncio.to_thread(service.restart)
        await eventually(lambda: len(singles) >= 1000)
    assert [int(message.body) for message in singles] == list(range(1000))


async def test_sizes_that_do_not_fit_their_totals_are_published_evenly_and_counted(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    spans = [Span("a", "b", 7, 0, 3, 200, "4,nonsense"), Span("a", "c", 7, 0, 1, 4, "4")]
    fact = DeliveriesCounted(app="default", at=1, source="e", incarnation=1, number=1, spans=spans)
    async with facts(nats_server.url) as bus, arriving_singles(amqp_url) as singles:
        await bus.bus.jetstream().publish(subjects.ev("default", "deliveries", "e"), encode(fact))
        await eventually(lambda: [int(m.body) for m in singles] == [66, 67, 67, 4])
    assert [str(m.message_id).rpartition(".")[2] for m in singles] == ["0", "1", "2", "3"]
    await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_singles_evened_total") == 1)
    assert "1 spans published as equal sizes" in service.logs()


async def publish_as_before(channel: AbstractChannel, app: str, position: int, amounts: list[int]) -> None:
    """Publish sizes as a bridge does that knows no batches; it declares what it needs."""
    queue = await amqp.declare(channel, "classic")
    await queue.bind(amqp.EXCHANGE, "#")
    exchange = await channel.get_exchange(amqp.EXCHANGE)
    for index, amount in enumerate(amounts):
        size = SizeMessage(amount, app, "alice", "bob", 7, now(), f"{position}.{index}").encode()
        message = aio_pika.Message(
            size.body, message_id=size.message_id, timestamp=size.timestamp, headers=size.headers
        )
        await exchange.publish(message, size.routing_key)


def now() -> int:
    return time.time_ns() // 10**6


def publish_as_edges_do(bus: Facts, app: str, amounts: list[int]) -> None:
    fact = PayloadsDelivered(app=app, at=now(), match=7, sender="alice", receiver="bob", sizes=amounts)
    assert bus.publisher.publish(fact)


async def test_windows_count_each_size_once_beside_a_bridge_that_knows_no_batches(
    nats_server: NatsServer, amqp_url: str, kafka_broker: KafkaBroker, start: Start
) -> None:
    analytics = start("analytics", {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}, deadline=60)
    async with facts(nats_server.url) as bus, await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await publish_as_before(channel, "demo", 1, [1, 2])
        service = bridge(start, nats_server, amqp_url)
        for _ in range(20):
            publish_as_edges_do(bus, "demo", [100, 200])
        await publish_as_before(channel, "demo", 2, [3])
        await eventually(lambda: service.metric(SINGLES) == 40)
        publish_as_edges_do(bus, "demo", [1000])
        expected = 1 + 2 + 3 + 20 * 300 + 1000, 3 + 40 + 1
        await eventually(lambda: sums(analytics, "app=demo") == expected, 40)
        queue = await channel.declare_queue(amqp.QUEUE, passive=True)
        assert queue.declaration_result.message_count == 0
        assert analytics.metric("cloudmatch_analytics_duplicates_total") == 0
