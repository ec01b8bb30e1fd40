"""The bus on a real server that dies, loses messages and comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.bucket import WATCH_TIMEOUT, Bucket, BucketWatcher, ConflictError, Entry, Write
from cloudmatch_bus.client.connection import PENDING_LIMIT, Bus, Headers, connect
from cloudmatch_bus.client.provision import ensure_provisioned
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import PayloadsDelivered, decode_fact
from harness import NatsServer, eventually

pytestmark = pytest.mark.servers

STREAM = streams.BUCKET_STREAM


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def connected(server: NatsServer, *, lane: bool = True) -> AsyncIterator[Bus]:
    bus = await connect(NatsSettings(url=server.url, lane=lane), "test")
    await ensure_provisioned(bus, 1)
    bus.on_reconnect.append(lambda: ensure_provisioned(bus, 1))
    yield bus
    await bus.close()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["lane", "plain"])
async def either_bus(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server, lane=request.param) as made:
        yield made


@contextlib.asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), "it ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# -- connection


async def test_what_is_published_while_the_server_is_away_arrives_later_or_is_refused_and_counted(
    either_bus: Bus, nats_server: NatsServer
) -> None:
    heard: list[int] = []
    await either_bus.subscribe("t.>", lambda _, __, payload, ___: heard.append(int(payload[:6])))
    nats_server.kill()
    await eventually(lambda: not either_bus.connected, what="the loss noticed")
    refused = counted("cloudmatch_bus_refused_total")
    size = 64 * 1024
    numbers = range(2 * PENDING_LIMIT // size)
    taken = [n for n in numbers if either_bus.publish("t.x", b"%06d" % n + bytes(size - 6))]
    assert PENDING_LIMIT // size // 2 < len(taken) < len(numbers)
    assert counted("cloudmatch_bus_refused_total") - refused == len(numbers) - len(taken)
    await asyncio.to_thread(nats_server.restart)
    await eventually(lambda: len(heard) >= len(taken), what="all that was taken")
    assert heard == taken


async def test_a_handler_that_fails_costs_its_message_and_nothing_else(
    either_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []

    def handler(_: str, __: str, payload: bytes, ___: Headers) -> None:
        if payload == b"bad":
            raise ZeroDivisionError("a bug")
        heard.append(payload)

    await either_bus.subscribe("t.x", handler)
    failed = counted("cloudmatch_bus_handler_failures_total")
    for payload in (b"one", b"bad", b"two"):
        either_bus.publish("t.x", payload)
    await eventually(lambda: heard == [b"one", b"two"])
    assert counted("cloudmatch_bus_handler_failures_total") == failed + 1
    assert "handler failed on t.x" in caplog.text
    assert either_bus.connected


async def test_nothing_is_heard_after_unsubscribing(either_bus: Bus) -> None:
    heard: list[str] = []
    first = await either_bus.subscribe("t.*", lambda subject, *_: heard.append(subject))
    await either_bus.unsubscribe(first)
    end: list[str] = []
    await either_bus.subscribe("t.*", lambda subject, *_: end.append(subject))
    either_bus.publish("t.x", b"")
    await eventually(lambda: end == ["t.x"])
    assert heard == []


async def test_messages_with_and_without_headers_come_in_order(either_bus: Bus) -> None:
    heard: list[tuple[bytes, Headers]] = []
    await either_bus.subscribe("t.x", lambda _, __, data, headers: heard.append((data, headers)))
    said = [(b"%d" % n, {"Number": f"{n}"} if n % 3 == 0 else None) for n in range(1000)]
    for data, headers in said:
        either_bus.publish("t.x", data, "", headers)
        if data.endswith(b"7"):
            await asyncio.sleep(0)
    await eventually(lambda: len(heard) == len(said), what="all of them")
    assert heard == said


async def test_when_one_of_a_queue_group_drains_its_subscription_none_is_lost(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server) as one, connected(nats_server) as two, connected(nats_server) as sender:
        heard: list[list[int]] = [[], []]
        first = await one.subscribe("here", lambda _, __, data, ___: heard[0].append(int(data)), "queue")
        await two.subscribe("here", lambda _, __, data, ___: heard[1].append(int(data)), "queue")
        await asyncio.gather(one.client.flush(), two.client.flush())
        draining = None
        for number in range(20_000):
            sender.publish("here", b"%d" % number)
            if number % 500 == 0:
                await asyncio.sleep(0)
            if number == 5000:
                await eventually(lambda: all(heard), what="both having a share")
                draining = asyncio.create_task(one.drain(first))
        await sender.client.flush()
        assert draining is not None
        await draining
        await eventually(lambda: sum(map(len, heard)) == 20_000, what="all of them")
        assert sorted(heard[0] + heard[1]) == list(range(20_000))
        assert heard[1][-1] == 19_999


async def test_a_request_that_nobody_answers_or_that_finds_no_server_is_a_timeout(
    bus: Bus, nats_server: NatsServer
) -> None:
    with pytest.raises(TimeoutError, match=r"no reply on t\.x"):
        await bus.request("t.x", b"")
    await bus.subscribe("t.x", lambda *_: None)
    with pytest.raises(TimeoutError):
        await bus.request("t.x", b"", timeout=0.05)
    nats_server.kill()
    with pytest.raises(TimeoutError):
        await bus.request("t.x", b"", timeout=0.2)
    with pytest.raises(TimeoutError):
        await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])


# -- bucket


@pytest.mark.parametrize("wrong", range(3))
async def test_a_batch_with_one_key_that_has_moved_on_writes_none(bus: Bus, wrong: int) -> None:
    bucket = Bucket(bus)
    keys = ["dev.x.a", "dev.x.b", "pair.x.1"]
    last = await bucket.commit([Write(key, b"old", 0) for key in keys])
    revisions = [last - 2, last - 1, last]
    writes = [Write(key, b"new", revision) for key, revision in zip(keys, revisions, strict=True)]
    with pytest.raises(ConflictError):
        await bucket.commit([w._replace(expected=0) if i == wrong else w for i, w in enumerate(writes)])
    assert [await bucket.get(key) for key in keys] == [
        Entry(key, b"old", revision) for key, revision in zip(keys, revisions, strict=True)
    ]
    assert await bucket.commit(writes) > last


async def test_of_many_who_write_over_one_revision_one_wins(nats_server: NatsServer, bus: Bus) -> None:
    async with connected(nats_server) as other:
        first = await Bucket(bus).commit([Write("dev.x.a", b"old", 0)])
        buckets = [Bucket(b) for b in (bus, other) * 10]
        outcomes = await asyncio.gather(
            *(
                b.commit([Write("dev.x.a", b"%d" % i, first), Write(f"pair.x.{i}", b"", 0)])
                for i, b in enumerate(buckets)
            ),
            return_exceptions=True,
        )
        won = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        assert len(won) == 1
        assert all(isinstance(o, ConflictError) for i, o in enumerate(outcomes) if i not in won)
        assert (await Bucket(bus).get("dev.x.a")).value == b"%d" % won[0]


async def test_a_deleted_key_leaves_its_word_and_then_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "TOMBSTONE_TTL", 1)
    bucket = Bucket(bus)
    first = await bucket.commit([Write("dev.x.a", b"1", 0)])
    gone = await bucket.commit([Write("dev.x.a", None, first, b"left")])
    assert await bucket.get("dev.x.a") == Entry("dev.x.a", None, gone, b"left")
    with pytest.raises(ConflictError):
        await bucket.commit([Write("dev.x.a", b"2", 0)])
    again = await bucket.commit([Write("dev.x.a", b"2", gone)])
    batch = [Write("dev.x.a", None, again, b"left"), Write("pair.x.1", None, 0)]
    await bucket.commit(batch)

    async def forgotten() -> bool:
        return [(await bucket.get(w.key)).revision for w in batch] == [0, 0]

    await eventually(forgotten, 10, "tombstones forgotten")
    created = await bucket.commit([Write("dev.x.a", b"3", 0)])
    await asyncio.sleep(1.5)  # longer than a tombstone lives: what was created over one is no tombstone
    assert await bucket.get("dev.x.a") == Entry("dev.x.a", b"3", created)


# -- watch


class Mirror:
    """A watch of a bus, and what it has told. `lose` says which messages to it are lost on the way."""

    def __init__(self, bus: Bus) -> None:
        self.known: dict[str, bytes] = {}
        self.unseen: set[str] = set()
        self.starts = 0
        self.lose: Callable[[Headers], bool] = lambda _: False
        subscribe = bus.subscribe

        async def lossy(subject: str, handler: Any, queue: str = "") -> Any:
            def hear(subject: str, reply: str, payload: bytes, headers: Headers) -> None:
                if not self.lose(headers):
                    handler(subject, reply, payload, headers)

            return await subscribe(subject, hear, queue)

        bus.subscribe = lossy  # type: ignore[method-assign]  # of this one connection
        self.watch = BucketWatcher(bus, self._on_entry, self._on_restart, self._on_ready)

    def _on_restart(self) -> None:
        self.starts += 1
        self.unseen = set(self.known)

    def _on_entry(self, entry: Entry) -> None:
        self.unseen.discard(entry.key)
        if entry.value is None:
            self.known.pop(entry.key, None)
        else:
            self.known[entry.key] = entry.value

    def _on_ready(self) -> None:
        for key in self.unseen:
            del self.known[key]

    async def knows(self, expected: dict[str, bytes], deadline: float = 5) -> None:
        await eventually(lambda: self.watch.ready and self.known == expected, deadline, f"{expected}")


@pytest.fixture
async def mirror(bus: Bus) -> AsyncIterator[Mirror]:
    made = Mirror(bus)
    async with running(made.watch.run()):
        await asyncio.wait_for(made.watch.synced.wait(), 5)
        yield made


def lose_once() -> Callable[[Headers], bool]:
    """Lose the next entry; what the server says of itself comes through."""
    lost = False

    def lose(headers: Headers) -> bool:
        nonlocal lost
        if lost or (headers or {}).get("Status"):
            return False
        lost = True
        return True

    return lose


async def test_a_watch_tells_all_there_is_and_then_each_change(nats_server: NatsServer, bus: Bus) -> None:
    bucket = Bucket(bus)
    last = await bucket.commit([Write(f"dev.x.{i}", b"1", 0) for i in range(50)])
    async with connected(nats_server) as other:
        mirror = Mirror(other)
        async with running(mirror.watch.run()):
            all_of_it = {f"dev.x.{i}": b"1" for i in range(50)}
            await mirror.knows(all_of_it)
            await bucket.commit([Write("dev.x.49", b"2", last), Write("dev.x.48", None, last - 1)])
            del all_of_it["dev.x.48"]
            await mirror.knows({**all_of_it, "dev.x.49": b"2"})
            assert mirror.starts == 1


async def test_a_message_lost_on_the_way_is_noticed_by_the_next(mirror: Mirror, bus: Bus) -> None:
    mirror.lose = lose_once()
    last = await Bucket(bus).commit([Write("dev.x.a", b"1", 0), Write("dev.x.b", b"1", 0)])
    await mirror.knows({"dev.x.a": b"1", "dev.x.b": b"1"})
    assert mirror.starts == 2
    await Bucket(bus).commit([Write("dev.x.b", b"2", last)])
    await mirror.knows({"dev.x.a": b"1", "dev.x.b": b"2"})
    assert mirror.starts == 2


async def test_a_lost_message_that_none_follows_is_noticed_by_the_servers_sign_of_life(
    mirror: Mirror, bus: Bus
) -> None:
    mirror.lose = lose_once()
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await mirror.knows({"dev.x.a": b"1"}, deadline=WATCH_TIMEOUT)
    assert mirror.starts == 2


async def test_a_key_that_vanished_without_a_trace_while_nothing_was_heard_is_not_shown_again(
    mirror: Mirror, bus: Bus
) -> None:
    last = await Bucket(bus).commit([Write("dev.x.a", b"1", 0), Write("dev.x.b", b"1", 0)])
    await mirror.knows({"dev.x.a": b"1", "dev.x.b": b"1"})
    mirror.lose = lambda _: True
    await Bucket(bus).commit([Write("dev.x.a", None, last - 1)])
    await bus.jetstream().purge_stream(STREAM, subject=f"{streams.BUCKET_PREFIX}dev.x.a")
    await eventually(lambda: mirror.starts == 2, WATCH_TIMEOUT + 2, "silence noticed")
    assert mirror.watch.health() is not None
    mirror.lose = lambda _: False
    await mirror.knows({"dev.x.b": b"1"}, WATCH_TIMEOUT + 3)


async def test_a_consumer_that_the_server_lost_is_made_anew(mirror: Mirror, bus: Bus) -> None:
    js = bus.jetstream()
    (consumer,) = await js.consumers_info(STREAM)
    await js.delete_consumer(STREAM, consumer.name)
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await mirror.knows({"dev.x.a": b"1"}, WATCH_TIMEOUT + 3)


async def test_after_a_power_cut_the_watch_shows_the_new_bucket_and_nothing_of_the_old(
    mirror: Mirror, bus: Bus, nats_server: NatsServer
) -> None:
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await mirror.knows({"dev.x.a": b"1"})
    nats_server.kill()
    await asyncio.to_thread(nats_server.restart)
    await mirror.knows({}, 10)

    async def written() -> bool:
        with contextlib.suppress(TimeoutError):
            return bool(await Bucket(bus).commit([Write("dev.x.b", b"1", 0)]))
        return False

    await eventually(written)
    await mirror.knows({"dev.x.b": b"1"})


# -- facts


def fact(number: int) -> PayloadsDelivered:
    return PayloadsDelivered(app="demo", at=number, match=1, sender="a", receiver="b", sizes=[number])


async def kept(bus: Bus) -> list[int]:
    """The numbers of all facts in the stream, in its order."""
    js = bus.jetstream()
    state = (await js.stream_info(streams.EVENTS)).state
    numbers = []
    for seq in range(state.first_seq, state.last_seq + 1):
        message = await js.get_msg(streams.EVENTS, seq)
        numbers.append(decode_fact(message.data or b"").at)
    return numbers


async def test_facts_are_kept_in_order(bus: Bus) -> None:
    publisher = FactPublisher(bus)
    async with running(publisher.run()):
        for number in range(1500):
            assert publisher.publish(fact(number))
        assert await publisher.drain(10) == 0
    assert await kept(bus) == list(range(1500))


async def test_every_fact_is_kept_once_though_the_server_dies_twice(
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
            await eventually(lambda before=before: count > before + 300, what="facts flowing")
            nats_server.kill()
            await asyncio.to_thread(nats_server.restart)
        await eventually(lambda: bus.connected)
        end.set()
        await publishing
        assert await publisher.drain(30) == 0
    numbers = await kept(bus)
    assert sorted(numbers) == list(range(count))


async def test_a_fact_that_several_processes_publish_under_one_key_counts_once(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with connected(nats_server) as other:
        for publisher in (FactPublisher(bus), FactPublisher(other)):
            async with running(publisher.run()):
                for number in range(100):
                    publisher.publish(fact(number), f"matched-demo-{number}")
                    await asyncio.sleep(0)
                publisher.publish(fact(200))
                assert await publisher.drain(5) == 0
    assert await kept(bus) == [*range(100), 200, 200]


async def test_a_full_queue_refuses_counts_and_keeps_what_it_took(bus: Bus, nats_server: NatsServer) -> None:
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
    assert sorted(await kept(bus)) == [0, 1, 2, 3, 4, 7]


async def test_a_stream_that_was_changed_by_hand_is_made_as_asked_again_and_begins_where_it_did(
    bus: Bus,
) -> None:
    js = bus.jetstream()
    changed = (await js.stream_info(STREAM)).config
    began = changed.first_seq
    assert began, "it begins at the clock"
    changed.description = "something else"
    await js.update_stream(changed)
    await ensure_provisioned(bus, 1)
    found = (await js.stream_info(STREAM)).config
    assert (found.description, found.first_seq) == (stream_config.bucket(1).description, began)
