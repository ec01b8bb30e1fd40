"""The bucket on a real server: atomic writes, and a watch that misses nothing when messages are lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cloudmatch_bus.client.bucket import WATCH_TIMEOUT, Bucket, BucketWatcher, ConflictError, Entry, Write
from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import streams
from harness import NatsServer, eventually
from harness.bus import connected, running

pytestmark = pytest.mark.servers


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as made:
        yield made


# -- reads and writes


@pytest.mark.parametrize("wrong", range(3))
async def test_a_batch_with_one_outdated_revision_writes_nothing(bus: Bus, wrong: int) -> None:
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


async def test_one_of_many_concurrent_writes_to_a_revision_wins(nats_server: NatsServer, bus: Bus) -> None:
    async with connected(nats_server.url) as other:
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


async def test_a_deleted_key_leaves_a_tombstone_and_then_nothing(
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

    async def expired() -> bool:
        return [(await bucket.get(w.key)).revision for w in batch] == [0, 0]

    await eventually(expired, 10, "tombstones expire")
    created = await bucket.commit([Write("dev.x.a", b"3", 0)])
    await asyncio.sleep(1.5)  # longer than a tombstone: a key created over one does not expire with it
    assert await bucket.get("dev.x.a") == Entry("dev.x.a", b"3", created)


# -- watch


async def test_a_watch_begins_with_the_age_of_each_key_by_the_servers_clock(bus: Bus) -> None:
    began = time.monotonic()
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await asyncio.sleep(0.2)
    ages: dict[str, float] = {}
    watch = BucketWatcher(bus, lambda entry: ages.update({entry.key: entry.age}), lambda: None, lambda: None)
    async with running(watch.run()):
        await watch.synced.wait()
        assert 0.2 <= ages["dev.x.a"] <= time.monotonic() - began
        await Bucket(bus).commit([Write("dev.x.b", b"1", 0)])
        await eventually(lambda: ages.get("dev.x.b") == 0.0, 5, "a change is new")


class Mirror:
    """A mirror of the bucket. `lose` decides which messages to its watch are lost."""

    def __init__(self, bus: Bus) -> None:
        self.known: dict[str, bytes] = {}
        self.unseen: set[str] = set()
        self.starts = 0
        self.lose: Callable[[Headers], bool] = lambda _: False
        subscribe = bus.subscribe

        async def lossy(subject: str, handler: Any, queue: str = "") -> Any:
            def receive(subject: str, reply: str, payload: bytes, headers: Headers) -> None:
                if not self.lose(headers):
                    handler(subject, reply, payload, headers)

            return await subscribe(subject, receive, queue)

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

    async def equals(self, expected: dict[str, bytes], deadline: float = 5) -> None:
        await eventually(lambda: self.watch.ready and self.known == expected, deadline, f"{expected}")


@pytest.fixture
async def mirror(bus: Bus) -> AsyncIterator[Mirror]:
    made = Mirror(bus)
    async with running(made.watch.run()):
        await asyncio.wait_for(made.watch.synced.wait(), 5)
        yield made


def lose_once() -> Callable[[Headers], bool]:
    """Lose the next entry, but no heartbeat of the server."""
    lost = False

    def lose(headers: Headers) -> bool:
        nonlocal lost
        if lost or (headers or {}).get("Status"):
            return False
        lost = True
        return True

    return lose


async def test_a_watch_delivers_all_keys_and_then_each_change(nats_server: NatsServer, bus: Bus) -> None:
    bucket = Bucket(bus)
    last = await bucket.commit([Write(f"dev.x.{i}", b"1", 0) for i in range(50)])
    async with connected(nats_server.url) as other:
        mirror = Mirror(other)
        async with running(mirror.watch.run()):
            all_of_it = {f"dev.x.{i}": b"1" for i in range(50)}
            await mirror.equals(all_of_it)
            await bucket.commit([Write("dev.x.49", b"2", last), Write("dev.x.48", None, last - 1)])
            del all_of_it["dev.x.48"]
            await mirror.equals({**all_of_it, "dev.x.49": b"2"})
            assert mirror.starts == 1


async def test_a_lost_message_is_noticed_by_the_next_one(mirror: Mirror, bus: Bus) -> None:
    mirror.lose = lose_once()
    last = await Bucket(bus).commit([Write("dev.x.a", b"1", 0), Write("dev.x.b", b"1", 0)])
    await mirror.equals({"dev.x.a": b"1", "dev.x.b": b"1"})
    assert mirror.starts == 2
    await Bucket(bus).commit([Write("dev.x.b", b"2", last)])
    await mirror.equals({"dev.x.a": b"1", "dev.x.b": b"2"})
    assert mirror.starts == 2


async def test_a_lost_message_that_none_follows_is_noticed_by_the_servers_heartbeat(
    mirror: Mirror, bus: Bus
) -> None:
    mirror.lose = lose_once()
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await mirror.equals({"dev.x.a": b"1"}, deadline=WATCH_TIMEOUT)
    assert mirror.starts == 2


async def test_a_key_purged_while_no_message_arrived_is_not_in_the_mirror_again(
    mirror: Mirror, bus: Bus
) -> None:
    last = await Bucket(bus).commit([Write("dev.x.a", b"1", 0), Write("dev.x.b", b"1", 0)])
    await mirror.equals({"dev.x.a": b"1", "dev.x.b": b"1"})
    mirror.lose = lambda _: True
    await Bucket(bus).commit([Write("dev.x.a", None, last - 1)])
    await bus.jetstream().purge_stream(streams.BUCKET_STREAM, subject=f"{streams.BUCKET_PREFIX}dev.x.a")
    await eventually(lambda: mirror.starts == 2, WATCH_TIMEOUT + 2, "the silence is noticed")
    assert mirror.watch.health() is not None
    mirror.lose = lambda _: False
    await mirror.equals({"dev.x.b": b"1"}, WATCH_TIMEOUT + 3)


async def test_a_consumer_that_the_server_lost_is_created_again(mirror: Mirror, bus: Bus) -> None:
    js = bus.jetstream()
    (consumer,) = await js.consumers_info(streams.BUCKET_STREAM)
    await js.delete_consumer(streams.BUCKET_STREAM, consumer.name)
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await mirror.equals({"dev.x.a": b"1"}, WATCH_TIMEOUT + 3)


async def test_after_a_power_cut_the_watch_delivers_the_new_bucket_and_nothing_of_the_old(
    mirror: Mirror, bus: Bus, nats_server: NatsServer
) -> None:
    await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await mirror.equals({"dev.x.a": b"1"})
    nats_server.kill()
    await asyncio.to_thread(nats_server.restart)
    await mirror.equals({}, 10)

    async def written() -> bool:
        with contextlib.suppress(TimeoutError):
            return bool(await Bucket(bus).commit([Write("dev.x.b", b"1", 0)]))
        return False

    await eventually(written)
    await mirror.equals({"dev.x.b": b"1"})
