"""Facts on a real server: each stored once and in order, whatever happens to the connection."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from nats.js.api import DiscardPolicy

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.provision import ensure_provisioned
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import PayloadsDelivered, decode_fact
from harness import NatsServer, eventually
from harness.bus import connected, counted, running

pytestmark = pytest.mark.servers


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as made:
        yield made


def fact(number: int) -> PayloadsDelivered:
    return PayloadsDelivered(app="demo", at=number, match=1, sender="a", receiver="b", sizes=[number])


async def stored(bus: Bus) -> list[int]:
    """Return the numbers of all facts in the stream, in its order."""
    js = bus.jetstream()
    state = (await js.stream_info(streams.EVENTS)).state
    numbers = []
    for seq in range(state.first_seq, state.last_seq + 1):
        message = await js.get_msg(streams.EVENTS, seq)
        numbers.append(decode_fact(message.data or b"").at)
    return numbers


async def test_facts_are_stored_in_order(bus: Bus) -> None:
    publisher = FactPublisher(bus)
    async with running(publisher.run()):
        for number in range(1500):
            assert publisher.publish(fact(number))
        assert await publisher.drain(10) == 0
    assert await stored(bus) == list(range(1500))


async def test_every_fact_is_stored_once_although_the_server_dies_twice(
    bus: Bus, nats_server: NatsServer
) -> None:
    publisher = FactPublisher(bus)
    count = 0

    async def publish_until(end: asyncio.Event) -> None:
        nonlocal count
        while not end.is_set():
            for _ in range(20):
                count += publisher.publish(fact(count))
            await asyncio.sleep(0.005)

    async with running(publisher.run()):
        end = asyncio.Event()
        publishing = asyncio.create_task(publish_until(end))
        for _ in range(2):
            before = count
            await eventually(lambda before=before: count > before + 300, what="facts flow")
            nats_server.kill()
            await asyncio.to_thread(nats_server.restart)
        await eventually(lambda: bus.connected)
        end.set()
        await publishing
        assert await publisher.drain(30) == 0
    numbers = await stored(bus)
    assert sorted(numbers) == list(range(count))


async def test_a_fact_that_several_processes_publish_under_one_key_is_stored_once(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with connected(nats_server.url) as other:
        for publisher in (FactPublisher(bus), FactPublisher(other)):
            async with running(publisher.run()):
                for number in range(100):
                    publisher.publish(fact(number), f"matched-demo-{number}")
                    await asyncio.sleep(0)
                publisher.publish(fact(200))
                assert await publisher.drain(5) == 0
    assert await stored(bus) == [*range(100), 200, 200]


async def test_a_full_queue_refuses_and_counts_facts_and_stores_those_it_accepted(
    bus: Bus, nats_server: NatsServer
) -> None:
    publisher = FactPublisher(bus, limit=5)
    refused = counted("cloudmatch_facts_refused_total")
    nats_server.kill()
    async with running(publisher.run()):
        assert [publisher.publish(fact(n)) for n in range(7)] == [True] * 5 + [False] * 2
        assert counted("cloudmatch_facts_refused_total") == refused + 2
        assert await publisher.drain(0.1) == 5
        await asyncio.to_thread(nats_server.restart)
        assert await publisher.drain(20) == 0
        assert publisher.publish(fact(7))
        assert await publisher.drain(5) == 0
    assert sorted(await stored(bus)) == [0, 1, 2, 3, 4, 7]


async def test_a_fact_that_is_never_refused_is_reported_as_stored_once(
    bus: Bus, nats_server: NatsServer
) -> None:
    publisher = FactPublisher(bus, limit=1)
    refused = counted("cloudmatch_facts_refused_total")
    reported: list[int] = []
    nats_server.kill()
    async with running(publisher.run()):
        for number in range(10):
            publisher.store(fact(number), partial(reported.append, number))
        assert await publisher.drain(0.1) == 10
        assert reported == []
        await asyncio.to_thread(nats_server.restart)
        assert await publisher.drain(20) == 0
    assert sorted(reported) == sorted(await stored(bus)) == list(range(10))
    assert counted("cloudmatch_facts_refused_total") == refused


async def test_facts_that_wait_are_said_once_with_the_reason_and_then_stored(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.backlog.PATIENCE", 0.5)
    js = bus.jetstream()
    config = (await js.stream_info(streams.EVENTS)).config
    config.max_bytes, config.discard = 1, DiscardPolicy.NEW  # as on a full disk
    await js.update_stream(config)
    publisher = FactPublisher(bus)
    said = "3 facts wait to be stored in EVENTS: maximum bytes exceeded (JetStream error 10077, code 503)"
    async with running(publisher.run()):
        for number in range(3):
            assert publisher.publish(fact(number))
        await eventually(lambda: "facts wait" in caplog.text)
        assert said in str(publisher.problem())
        assert counted("cloudmatch_facts_waiting") == 3
        assert counted("cloudmatch_facts_waiting_seconds") > 0
        await ensure_provisioned(bus, 1)
        assert await publisher.drain(5) == 0
        await eventually(lambda: "facts are stored again" in caplog.text)
        assert publisher.problem() is None
    assert caplog.text.count("facts wait") == caplog.text.count(said) == 1
    assert sorted(await stored(bus)) == [0, 1, 2]


async def test_a_fact_that_is_not_stored_in_time_is_replaced(bus: Bus, nats_server: NatsServer) -> None:
    publisher = FactPublisher(bus)
    reported: list[int] = []
    async with running(publisher.run()):
        publisher.store(fact(1), partial(reported.append, 1), lambda: fact(101), within=60)
        assert await publisher.drain(5) == 0
        await bus.jetstream().delete_stream(streams.EVENTS)
        publisher.store(fact(2), partial(reported.append, 2), lambda: fact(102), within=0.5)
        publisher.store(fact(3), partial(reported.append, 3), lambda: fact(103), within=60)
        assert await publisher.drain(1) == 2
        await ensure_provisioned(bus, 1)
        assert await publisher.drain(10) == 0
    assert sorted(reported) == [1, 2, 3]
    assert sorted(await stored(bus)) == [3, 102]
