"""The bridge between a real bus and a real RabbitMQ."""

import asyncio
from collections.abc import Callable
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractQueue
from prometheus_client import Counter

import harness
from cloudmatch_bridge_rabbit.publisher import Publisher
from cloudmatch_bridge_rabbit.set_aside import keep_in
from cloudmatch_bus.client.isolation import Unhandled
from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten, streams, subjects
from cloudmatch_bus.contract.amqp_names import app_key, device_key
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import AmountReported, DeliveriesCounted, DeviceForgotten, encode
from cloudmatch_bus.process.settings import AmqpSettings
from harness import NatsServer, Service, eventually
from harness.amqp import arriving, arriving_singles, sizes
from harness.facts import facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]


def bridge(start: Start, nats: NatsServer, amqp_url: str, **how: Any) -> Service:
    return start("bridge-rabbit", {"CLOUDMATCH_NATS_URL": nats.url, "CLOUDMATCH_AMQP_URL": amqp_url}, **how)


async def test_every_fact_that_counts_is_published_as_a_batch_with_its_own_bytes(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    bridge(start, nats_server, amqp_url)
    fact = DeliveriesCounted(
        app="é.", at=5, source="edge-0", incarnation=1, number=1, spans=[span("a", "b", 7, 0, [4, 0])]
    )
    payload = encode(fact).replace(b'"at"', b'"future":1, "at"')
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        await bus.bus.jetstream().publish(subjects.ev("é.", "deliveries", "edge-0"), payload)
        bus.payloads(4, 0, 262_144)
        bus.publisher.publish(
            AmountReported(app="default", at=1700000000123, device="a", event_type="bytesSent", amount=12)
        )
        await eventually(lambda: len(messages) == 3)
        erase = encode(DeviceForgotten(app="é.", at=5, device="a"))
        await bus.bus.jetstream().publish(subjects.ev("é.", "forgotten", "a"), erase)
        async with await aio_pika.connect(amqp_url) as connection:
            queue = await (await connection.channel()).get_queue(amqp_forgotten.QUEUE)
            await eventually(lambda: queue.get(no_ack=True, fail=False), what="a device to forget")
    assert messages[0].body == payload
    assert [message.routing_key for message in messages] == ["=C3=A9=2E", "default", "default"]
    position = int(str(messages[1].message_id))
    ids = [message.message_id for message in messages]
    assert ids == ["edge-0.1.1", f"{position}", f"{position + 1}"]
    assert {message.delivery_mode for message in messages} == {aio_pika.DeliveryMode.PERSISTENT}
    assert {message.content_type for message in messages} == {"application/json"}
    former, reported = (amqp_batches.decode(message.body) for message in messages[1:])
    assert (former.app, former.at, reported.app, reported.at) == ("default", 1, "default", 1700000000123)
    assert [(s.sender, s.receiver, s.match, s.payloads, s.bytes) for s in former.spans + reported.spans] == [
        ("a", "b", 7, 3, 262_148),
        ("a", "", 0, 1, 12),
    ]


async def test_a_batch_of_several_frames_arrives_whole(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    bridge(start, nats_server, amqp_url)
    spans = [span(f"{n:0>60}", "b", n, 0, [n, n + 1]) for n in range(3000)]
    fact = DeliveriesCounted(app="default", at=5, source="edge-0", incarnation=1, number=1, spans=spans)
    assert len(encode(fact)) > 200_000
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        await bus.bus.jetstream().publish(subjects.ev("default", "deliveries", "edge-0"), encode(fact))
        bus.payloads(4)
        await eventually(lambda: len(messages) == 2)
    assert messages[0].body == encode(fact)


async def test_every_size_is_published_as_the_contract_says(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus, arriving_singles(amqp_url) as messages:
        bus.payloads(4, 0, 262_144)
        bus.publisher.publish(
            AmountReported(app="default", at=1700000000123, device="é.", event_type="bytesSent", amount=12)
        )
        await eventually(lambda: len(messages) == 4)
    first, *_, last = messages
    assert [message.body for message in messages] == [b"4", b"0", b"262144", b"12"]
    assert (first.routing_key, last.routing_key) == ("default.a", "default.=C3=A9=2E")
    batched = {"app": "default", "batched": True}
    assert first.headers == batched | {"from": "a", "to": "b", "match": 7, "at": 1}
    assert last.headers == batched | {"from": "é.", "to": "", "match": 0, "at": 1700000000123}
    assert last.timestamp is not None
    assert int(last.timestamp.timestamp()) == 1700000000
    position = int(str(first.message_id).partition(".")[0])
    assert [message.message_id for message in messages] == [
        f"{position}.0",
        f"{position}.1",
        f"{position}.2",
        f"{position + 1}.0",
    ]
    assert [m.correlation_id for m in messages] == [m.message_id for m in messages]
    assert {message.delivery_mode for message in messages} == {aio_pika.DeliveryMode.PERSISTENT}


async def test_ids_that_are_too_long_for_a_routing_key_are_shortened_in_it_and_whole_beside_it(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    bridge(start, nats_server, amqp_url)
    app, sensor, wide = (
        "温" * 64,
        "温度传感器-北京市朝阳区建国门外大街一号国贸大厦三层东南角",
        "\U0010ffff" * 64,
    )
    reports = [("default", sensor), ("default", wide), (app, wide)]
    async with (
        facts(nats_server.url) as bus,
        arriving(amqp_url) as batches,
        arriving_singles(amqp_url) as messages,
    ):
        for each, device in reports:
            bus.publisher.publish(
                AmountReported(app=each, at=1, device=device, event_type="bytesSent", amount=4)
            )
        await eventually(lambda: len(batches) == len(messages) == 3)
    assert [message.routing_key for message in messages] == [device_key(*each) for each in reports]
    assert [(message.headers["app"], message.headers["from"]) for message in messages] == reports
    assert [message.routing_key for message in batches] == [app_key(each) for each, _ in reports]


async def test_two_bridges_share_the_work(nats_server: NatsServer, amqp_url: str, start: Start) -> None:
    bridges = [bridge(start, nats_server, amqp_url) for _ in range(2)]
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        for number in range(2000):
            bus.payloads(number)
            await asyncio.sleep(0)
        await eventually(lambda: len(messages) >= 2000, 20)
        await bus.kept()
    assert sorted(sizes(messages)) == list(range(2000))
    assert len({message.message_id for message in messages}) == 2000
    shares = [each.metric("cloudmatch_bridge_rabbit_confirmed_total") for each in bridges]
    assert sum(shares) == 2000
    assert min(shares) > 0


async def test_a_deleted_exchange_is_declared_again_and_no_size_is_lost(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus, await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for exchange in (amqp_batches.EXCHANGE, amqp.EXCHANGE):
            await channel.exchange_delete(exchange)
        bus.payloads(4)
        queue = await channel.get_queue(amqp_batches.QUEUE)
        message = await eventually(lambda: queue.get(no_ack=True, fail=False), 15)
        assert message is not None
        assert sizes([message]) == [4]
        await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_singles_total") >= 1)
    assert "no exchange 'cloudmatch.sizes'" in service.logs()
    assert "no exchange 'cloudmatch.bytes'" in service.logs()


async def test_a_deleted_queue_is_declared_again_and_no_size_is_lost(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    bridge(start, nats_server, amqp_url)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(amqp_batches.QUEUE)
    async with facts(nats_server.url) as bus:
        bus.payloads(4)

        async def declared() -> bool:
            async with await aio_pika.connect(amqp_url) as connection:
                channel = await connection.channel()
                try:
                    queue = await channel.declare_queue(amqp_batches.QUEUE, passive=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    return False
                return bool(queue.declaration_result.message_count)

        await eventually(declared, 15)


async def test_a_blocked_connection_loses_and_duplicates_nothing(
    nats_server: NatsServer, amqp_url: str, rabbitmq: harness.RabbitMQ, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    watermark = "set_vm_memory_high_watermark"
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        bus.payloads(0)
        await eventually(lambda: len(messages) == 1)
        await asyncio.to_thread(rabbitmq.control, watermark, "absolute", "1")
        try:
            for number in range(1, 501):
                bus.payloads(number)
            await eventually(lambda: "alarm" in service.get("/system/readiness")[1], 20)
            # longer than the bus waits for an ack: the bridge must extend that time
            await asyncio.sleep(1.5 * streams.ACK_WAIT)
            assert len(messages) == 1
        finally:
            await asyncio.to_thread(rabbitmq.control, watermark, "absolute", "512MB")
        await eventually(lambda: len(messages) >= 501, 20)
        await asyncio.to_thread(service.wait_ready)

        async def settled() -> bool:
            info = await bus.bus.jetstream().consumer_info("EVENTS", "bridge-rabbit")
            return (info.num_ack_pending, info.num_pending) == (0, 0)

        await eventually(settled)
    assert len(messages) == 501
    assert sorted(sizes(messages)) == list(range(501))


async def reject_all(queue: AbstractQueue) -> int:
    rejected = 0
    while message := await queue.get(fail=False):
        await message.reject()
        rejected += 1
    return rejected


async def test_dead_letters_are_listed_and_replayed(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    nothing = await asyncio.to_thread(service.ask, "dead-letters")
    assert (nothing.returncode, nothing.stderr) == (0, "no dead letters\n")
    async with facts(nats_server.url) as bus:
        for number in range(30):
            bus.payloads(number)
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(amqp_batches.QUEUE)
            rejected = 0
            while rejected < 30:
                rejected += await reject_all(queue)

            await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_dead_letters") == 30, 20)
            shown = await asyncio.to_thread(service.ask, "dead-letters", "--limit", "2")
            assert shown.returncode == 0
            assert "30 dead letters, showing the oldest 2" in shown.stderr
            assert shown.stdout.count("rejected") == 2

            dry = await asyncio.to_thread(service.ask, "replay", "--dry-run", "--limit", "7")
            assert dry.stderr == "would move 7 dead letters\n"
            moved = await asyncio.to_thread(service.ask, "replay", "--limit", "10")
            assert (moved.returncode, moved.stderr) == (0, "moved 10 dead letters\n")
            # a batch rejected again returns to the dead letters, and one command does not move it twice
            assert await reject_all(queue) == 10
            moved = await asyncio.to_thread(service.ask, "replay")
            assert (moved.returncode, moved.stderr) == (0, "moved 30 dead letters\n")
        async with arriving(amqp_url) as messages:
            await eventually(lambda: len(messages) >= 30)
    assert sizes(messages) == [*range(10, 30), *range(10)]
    assert {(message.routing_key, message.content_type) for message in messages} == {
        ("default", "application/json")
    }
    assert not any(message.headers for message in messages)
    assert len({message.message_id for message in messages}) == 30
    assert {message.delivery_mode for message in messages} == {aio_pika.DeliveryMode.PERSISTENT}
    await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_dead_letters") == 0, 20)


async def test_a_rejected_size_of_a_producer_of_2019_is_replayed_to_analytics_alone(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with arriving_singles(amqp_url) as others, await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(amqp.QUEUE)
        message = aio_pika.Message(b"four", message_id="mine", headers={"app": "demo"})
        await channel.default_exchange.publish(message, amqp.QUEUE)
        await eventually(lambda: reject_all(queue))
        await eventually(lambda: service.metric("cloudmatch_bridge_rabbit_dead_letters") == 1, 20)
        assert "four" in (await asyncio.to_thread(service.ask, "dead-letters")).stdout
        moved = await asyncio.to_thread(service.ask, "replay")
        assert (moved.returncode, moved.stderr) == (0, "moved 1 dead letters\n")
        again = await eventually(lambda: queue.get(no_ack=True, fail=False))
        assert (again.body, again.message_id, again.headers) == (b"four", "mine", {"app": "demo"})
        assert not others


async def test_the_commands_fail_with_a_message_while_rabbitmq_is_unreachable(
    nats_server: NatsServer, start: Start
) -> None:
    unreachable = f"amqp://guest:guest@127.0.0.1:{harness.free_port()}/"
    service = bridge(start, nats_server, unreachable, ready=False)
    for command in ("dead-letters", "replay"):
        answer = await asyncio.to_thread(service.ask, command)
        assert answer.returncode == 1
        assert answer.stderr.startswith("cannot use RabbitMQ")


async def test_messages_that_are_not_facts_disturb_nothing_and_are_set_aside(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        bus.payloads(1)
        await bus.kept()
        subject = subjects.ev("default", "delivered", "a")
        deep = b'{"type":"left","x":' + b"[" * 100_000
        for rubbish in (b"", b"nonsense", b"\xff\xfe", b"{}", deep, b'{"type":"unheard-of"}'):
            await bus.bus.jetstream().publish(subject, rubbish)
        bus.payloads(2)
        await eventually(lambda: len(messages) == 2)

        async def all_acknowledged() -> bool:
            info = await bus.bus.jetstream().consumer_info("EVENTS", "bridge-rabbit")
            return (info.num_ack_pending, info.num_pending) == (0, 0)

        await eventually(all_acknowledged)
    assert sizes(messages) == [1, 2]
    assert service.metric("cloudmatch_feed_undecodable_total") == 1  # which may be of a later version
    assert service.metric("cloudmatch_feed_set_aside_total") == 5
    shown = await asyncio.to_thread(service.ask, "dead-letters")
    assert "5 dead letters" in shown.stderr
    assert shown.stdout.count("truncated") == 1
    moved = await asyncio.to_thread(service.ask, "replay")
    assert (moved.returncode, moved.stderr.count(" stays: ")) == (0, 5)
    assert "moved 0 dead letters" in moved.stderr


async def test_facts_that_were_set_aside_are_replayed_as_what_they_become(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    fact = DeliveriesCounted(
        app="x", at=5, source="edge-0", incarnation=1, number=1, spans=[span("a", "b", 7, 0, [4, 5])]
    )
    publisher = Publisher(AmqpSettings(url=amqp_url), no_declaration, Counter("aside", ""))
    stop = asyncio.Event()
    connecting = asyncio.create_task(publisher.keep_connected(stop))
    await publisher.ready()
    for consumer in (*streams.DURABLE_CONSUMERS, streams.SINGLES):
        await keep_in(publisher, consumer)(Unhandled(42, "s", encode(fact), "ValueError: it was a bug"))
    stop.set()
    await connecting
    await publisher.close()
    shown = await asyncio.to_thread(service.ask, "dead-letters")
    assert shown.stdout.count("ValueError:") == 2
    async with arriving(amqp_url) as batches, arriving_singles(amqp_url) as singles:
        moved = await asyncio.to_thread(service.ask, "replay")
        assert (moved.returncode, moved.stderr) == (0, "moved 2 dead letters\n")
        await eventually(lambda: len(batches) == 1 and len(singles) == 2)
    assert [m.message_id for m in batches + singles] == ["edge-0.1.1", "edge-0.1.1.0", "edge-0.1.1.1"]
    assert "no dead letters" in (await asyncio.to_thread(service.ask, "dead-letters")).stderr


async def no_declaration(_: object) -> None:
    """Declare nothing: the service has."""


async def test_a_restart_continues_where_the_bridge_stopped(
    nats_server: NatsServer, amqp_url: str, start: Start
) -> None:
    service = bridge(start, nats_server, amqp_url)
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        for number in range(1000):
            bus.payloads(number)
        await eventually(lambda: messages)
        await asyncio.to_thread(service.terminate)
        await asyncio.to_thread(service.restart)
        await eventually(lambda: len(messages) >= 1000)
    assert len(messages) == 1000
    assert sizes(messages) == list(range(1000))


async def test_readiness_names_everything_that_is_unreachable(nats_server: NatsServer, start: Start) -> None:
    nats_server.terminate()
    unreachable = f"amqp://guest:guest@127.0.0.1:{harness.free_port()}/"
    service = bridge(start, nats_server, unreachable, ready=False)
    status, text = service.get("/system/readiness")
    assert (status, "NATS" in text, "RabbitMQ" in text) == (503, True, True)
    assert service.get("/system/liveness")[0] == 200
    service.terminate()
    assert service.process.returncode == 0
