"""Readers of facts: a shared durable consumer, a follower, a range of the stream read once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.consumer import DurableConsumer, Held
from cloudmatch_bus.client.follower import Delivery, Follower
from cloudmatch_bus.client.history import history, position_range
from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_bus.client.provision import connected_bus, provision
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams, subjects
from cloudmatch_bus.process.health import Health
from harness import NatsServer, eventually
from harness.bus import counted
from harness.facts import facts

pytestmark = pytest.mark.servers

(DURABLE,) = streams.DURABLE_CONSUMERS
SLOW = 1.6 * streams.ACK_WAIT  # s; longer than the server waits for an ack


class Reader:
    """A process that handles its first batch for `pause` seconds."""

    def __init__(self, bus: Bus, pause: float = 0.0) -> None:
        self.started: list[int] = []
        self.done: list[int] = []
        self._pause = pause
        self.running = asyncio.create_task(DurableConsumer(bus, DURABLE).run(self._handle, asyncio.Event()))

    async def _handle(self, deliveries: list[Held]) -> None:
        positions = [delivery.position for delivery in deliveries]
        self.started += positions
        pause, self._pause = self._pause, 0.0
        await asyncio.sleep(pause)
        self.done += positions


@contextlib.asynccontextmanager
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    bus = await connect(NatsSettings(url=server.url), "reader")
    try:
        yield bus
    finally:
        await bus.close()


async def end(*readers: Reader) -> None:
    for reader in readers:
        reader.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader.running


async def test_facts_held_by_a_slow_process_are_not_redelivered_to_another(nats_server: NatsServer) -> None:
    async with facts(nats_server.url) as published, bus(nats_server) as one, bus(nats_server) as two:
        slow = Reader(one, SLOW)
        published.payloads(1)
        await eventually(lambda: slow.started)
        for _ in range(20):
            published.payloads(1)
        await published.kept()
        other = Reader(two)
        await eventually(lambda: len(slow.done) + len(other.done) >= 21, 30)
        info = await eventually(lambda: settled(one), 30)
        await end(slow, other)
    assert info.num_redelivered == 0
    assert sorted(slow.done + other.done) == sorted(set(slow.done + other.done))
    assert slow.done
    assert slow.started[0] not in other.started


async def settled(bus: Bus) -> Any:
    info = await bus.jetstream().consumer_info(streams.EVENTS, DURABLE)
    return info if (info.num_pending, info.num_ack_pending) == (0, 0) else None


async def test_facts_held_by_a_dead_process_are_redelivered_to_another(nats_server: NatsServer) -> None:
    async with facts(nats_server.url) as published, bus(nats_server) as one, bus(nats_server) as two:
        doomed = Reader(one, 60)
        published.payloads(1)
        await eventually(lambda: doomed.started)
        await end(doomed)
        other = Reader(two)
        await eventually(lambda: other.done == doomed.started, 5 * streams.ACK_WAIT)
        await end(other)


async def test_a_durable_consumer_handles_large_facts_in_portions_and_those_of_a_failure_again(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.consumer.PORTION", 10_000)
    handled: list[list[int]] = []
    stop, failures = asyncio.Event(), 0
    async with facts(nats_server.url) as published, bus(nats_server) as reader:
        for number in range(1, 101):
            published.payloads(*[number] * (1000 if number % 10 == 0 else 1))
        await published.bus.jetstream().publish(subjects.ev("default", "left", "a"), b"no fact")
        await published.kept()

        async def handle(held: list[Held]) -> None:
            nonlocal failures
            if len(handled) == 2 and not failures:
                failures += 1
                raise DownstreamError("away")
            handled.append([each.fact.at for each in held])
            if len(handled) == 4:
                stop.set()

        await DurableConsumer(reader, DURABLE).run(handle, stop)
        assert len(handled) == 4  # what is left is handed back at once
        stop.clear()
        running = asyncio.create_task(DurableConsumer(reader, DURABLE).run(handle, stop))
        info = await eventually(lambda: settled(reader), 20)
        stop.set()
        await running
    assert sorted(at for each in handled for at in each) == list(range(1, 101))
    assert all(sum(at % 10 == 0 for at in each) <= 5 for each in handled)  # 2 to 3 kB each
    assert info.num_redelivered == 0


async def test_a_durable_consumer_that_lingers_handles_what_comes_meanwhile_at_once(
    nats_server: NatsServer,
) -> None:
    handled: list[int] = []
    stop = asyncio.Event()
    async with facts(nats_server.url) as published, bus(nats_server) as reader:

        async def handle(held: list[Held]) -> None:
            handled.append(len(held))

        consumer = DurableConsumer(reader, DURABLE, linger=60)
        running = asyncio.create_task(consumer.run(handle, stop))
        published.payloads(1)
        await eventually(lambda: handled == [1])
        published.payloads(2)
        await published.kept()
        await eventually(lambda: settling(reader, 1))
        assert handled == [1]
        stop.set()  # it ends at once, and hands back what waits
        await asyncio.wait_for(running, 10)
        running = asyncio.create_task(DurableConsumer(reader, DURABLE).run(handle, stop := asyncio.Event()))
        await eventually(lambda: handled == [1, 1])
        stop.set()
        await running


async def settling(bus: Bus, held: int) -> bool:
    info = await bus.jetstream().consumer_info(streams.EVENTS, DURABLE)
    return (info.num_pending, info.num_ack_pending) == (0, held)


async def test_a_follower_handles_large_facts_in_portions_each_once_and_in_order(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.history.BATCH_BYTES", 10_000)
    handled: list[list[int]] = []
    async with facts(nats_server.url) as published, bus(nats_server) as reader:
        for number in range(1, 101):
            published.payloads(*[number] * (1000 if number % 10 == 0 else 1))
        await published.kept()
        await published.bus.jetstream().publish(subjects.ev("default", "left", "a"), b"no fact")
        _, last = await position_range(reader)
        follower, stop = Follower(reader), asyncio.Event()

        async def handle(deliveries: list[Delivery]) -> None:
            assert follower.position < deliveries[0].position
            handled.append([delivery.fact.at for delivery in deliveries])

        running = asyncio.create_task(follower.run(handle, 0, stop))
        await eventually(lambda: follower.position == last)
        stop.set()
        await running
    assert [at for each in handled for at in each] == list(range(1, 101))
    assert len(handled) > 3
    assert all(sum(at % 10 == 0 for at in each) <= 5 for each in handled)  # 2 to 3 kB each


async def test_history_yields_a_range_of_the_stream_in_order(nats_server: NatsServer) -> None:
    async with facts(nats_server.url) as published:
        for number in range(1200):
            published.payloads(number)
        await published.kept()
        await published.bus.jetstream().publish(subjects.ev("x", "left", "a"), b"no fact")
        first, last = await position_range(published.bus)
        assert last - first == 1200
        read = [entry async for batch in history(published.bus, first + 9, last) for entry in batch]
        assert [position for position, _ in read] == list(range(first + 10, last + 1))
        assert [fact is None for _, fact in read] == [False] * 1190 + [True]
        read = [entry async for batch in history(published.bus, first + 9, first + 20) for entry in batch]
        assert [position for position, _ in read] == list(range(first + 10, first + 21))
        assert [e async for batch in history(published.bus, last, last + 5) for e in batch] == []
        assert not [c for c in await published.bus.jetstream().consumers_info("EVENTS") if c.name != DURABLE]


async def test_a_durable_consumer_that_is_deleted_is_made_again_where_it_was(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.durable.LOOK_INTERVAL", 0.2)
    remade = counted("cloudmatch_feed_remade_total")
    async with facts(nats_server.url) as published, bus(nats_server) as one:
        reader = Reader(one)
        js = published.bus.jetstream()
        for _ in range(2):
            for _ in range(50):
                published.payloads(1)
            await published.kept()
            await eventually(lambda: len(reader.done) == published.count)
            await js.delete_consumer(streams.EVENTS, DURABLE)
        published.payloads(1)
        await eventually(lambda: len(reader.done) == published.count)
        await provision(published.bus, 1)  # as any service does when it starts
        assert reader.done == sorted(set(reader.done))
        await end(reader)
    assert counted("cloudmatch_feed_remade_total") == remade + 2


async def test_a_durable_consumer_says_that_it_is_paused_or_makes_no_progress(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.durable.LOOK_INTERVAL", 0.1)
    monkeypatch.setattr("cloudmatch_bus.client.progress.PATIENCE", 1.0)
    async with facts(nats_server.url) as published, bus(nats_server) as reader:
        stop, going = asyncio.Event(), asyncio.Event()
        consumer = DurableConsumer(reader, DURABLE)

        async def handle(_: list[Held]) -> None:
            await going.wait()

        running = asyncio.create_task(consumer.run(handle, stop))
        await eventually(lambda: consumer.health() is None)
        js = published.bus.jetstream()
        await js.pause_consumer(streams.EVENTS, DURABLE, "2099-01-01T00:00:00Z")
        await eventually(lambda: "paused" in str(consumer.health()))
        await js.resume_consumer(streams.EVENTS, DURABLE)
        await eventually(lambda: consumer.health() is None)
        published.payloads(1)
        await eventually(lambda: "1 facts wait, none handled for" in str(consumer.health()))
        going.set()
        await eventually(lambda: consumer.health() is None)
        stop.set()
        await running


async def test_a_stream_that_is_deleted_is_made_again_and_read_from_its_beginning(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.provision.WATCH_INTERVAL", 0.2)
    monkeypatch.setattr("cloudmatch_bus.client.durable.LOOK_INTERVAL", 0.2)
    stop, health, read = asyncio.Event(), Health(), list[Delivery]()
    settings = NatsSettings(url=nats_server.url)
    async with facts(nats_server.url) as published, connected_bus(settings, "reader", health, stop) as one:
        assert one is not None
        durable, follower = Reader(one), Follower(one)
        running = asyncio.create_task(follower.run(collect(read), 0, stop))
        for _ in range(2):
            published.payloads(1)
            await published.kept()
            count = published.count
            await eventually(lambda count=count: len(durable.done) == len(read) == count)
            await published.bus.jetstream().delete_stream(streams.EVENTS)
            async with asyncio.timeout(10):
                while health.readiness()[0] != 503:  # noqa: ASYNC110 # it may be restored within a millisecond
                    await asyncio.sleep(0)
            await eventually(lambda: health.readiness()[0] == 200)
        published.payloads(1)
        await eventually(lambda: len(durable.done) == len(read) == 3)
        stop.set()
        await running
        await end(durable)
    assert [each.fact.at for each in read] == [1, 2, 3]


def collect(read: list[Delivery]) -> Any:
    async def handle(deliveries: list[Delivery]) -> None:
        read.extend(deliveries)

    return handle
