"""Several engines on one real bucket, as in several workers: any may be asked, others act meanwhile."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from cloudmatch_bus.client.bucket import Bucket, BucketWatcher, Entry
from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.provision import ensure_provisioned
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    AnyRequest,
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    LeavePool,
    MatchEnded,
    MatchMade,
    SeekPartner,
    Tombstone,
    decode_device,
    decode_pair,
)
from cloudmatch_bus.process.clock import monotonic
from cloudmatch_match_engine.core.answers import state_of
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.handler import PairingHandler
from cloudmatch_match_engine.pairing.mirror import Mirror
from harness import NatsServer, eventually

pytestmark = pytest.mark.servers

APP = "demo"


class Notifications:
    """What all engines have sent to edges and to the stream of facts."""

    def __init__(self) -> None:
        self.edges: list[tuple[str, AnyAnswer]] = []
        self.facts: dict[str, AnyFact] = {}

    def notify(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        self.edges.append((record.device, answer))

    def publish(self, fact: AnyFact, key: str) -> None:
        self.facts[key] = fact

    def of(self, device: str) -> list[AnyAnswer]:
        return [answer for name, answer in self.edges if name == device]

    def matches_of(self, device: str) -> list[AnyAnswer]:
        """Matches of which a device's edge was told, without what only the bucket knows."""
        return [replace(a, peer_revision=0) for a in self.of(device) if isinstance(a, DevicePaired)]

    def facts_of(self, kind: type) -> list[Any]:
        return [fact for fact in self.facts.values() if isinstance(fact, kind)]


class Engine:
    """A worker's engine and mirror on a connection of its own."""

    def __init__(self, bus: Bus, sent: Notifications) -> None:
        self.bus = bus
        self.roster = Roster()
        mirror = Mirror(self.roster, monotonic)
        self.handler = PairingHandler(Bucket(bus), mirror, sent, clock=lambda: 1, reach=PLANAR_REACH)
        self.watch = BucketWatcher(bus, mirror.on_entry, self.roster.restart, self.roster.complete)


class Engines:
    """Three engines. Requests are repeated until answered, by the next engine each time, as edges do."""

    def __init__(self, engines: list[Engine], sent: Notifications) -> None:
        self.engines, self.sent = engines, sent
        self.bus = engines[0].bus
        self._turn = 0

    async def ask(self, request: AnyRequest) -> AnyAnswer:
        for _ in range(50):
            self._turn += 1
            try:
                return await self.engines[self._turn % len(self.engines)].handler.answer(request)
            except TimeoutError:
                await asyncio.sleep(0.05)
        raise AssertionError("never answered")

    async def seek(
        self, device: str, lat: float = 0, connection_id: int = 1, app: str = APP, edge: str = "e"
    ) -> AnyAnswer:
        request = SeekPartner(app=app, device=device, edge=edge, connection_id=connection_id, lat=lat, lon=0)
        return await self.ask(request)

    async def leave(self, device: str, connection_id: int = 1, app: str = APP, edge: str = "e") -> AnyAnswer:
        request = LeavePool(app=app, device=device, edge=edge, connection_id=connection_id)
        return await self.ask(request)

    async def entries(self) -> list[Entry]:
        """All keys of the bucket that have a value."""
        js = self.bus.jetstream()
        info = await js.stream_info(f"KV_{streams.BUCKET}", subjects_filter=">")
        keys = [subject.split(".", 2)[2] for subject in info.state.subjects or ()]
        found = [await Bucket(self.bus).get(key) for key in keys]
        return [entry for entry in found if entry.value is not None]

    async def devices(self) -> dict[str, DeviceRecord]:
        records = [decode_device(e.value or b"") for e in await self.entries() if e.key.startswith("dev.")]
        return {record.device: record for record in records}

    async def pairs(self) -> dict[int, set[str]]:
        records = [decode_pair(e.value or b"") for e in await self.entries() if e.key.startswith("pair.")]
        return {record.match: {record.device, record.peer} for record in records}

    async def last(self) -> int:
        return (await self.bus.jetstream().stream_info(f"KV_{streams.BUCKET}")).state.last_seq


@pytest.fixture
async def engines(nats_server: NatsServer) -> AsyncIterator[Engines]:
    sent = Notifications()
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number in range(3):
            bus = await connect(NatsSettings(url=nats_server.url), f"engine-{number}")
            stack.push_async_callback(bus.close)
            await ensure_provisioned(bus, 1)
            bus.on_reconnect.append(lambda bus=bus: ensure_provisioned(bus, 1))
            made.append(Engine(bus, sent))
        watching = [asyncio.create_task(engine.watch.run()) for engine in made]
        for engine in made:
            await asyncio.wait_for(engine.watch.synced.wait(), 5)
        yield Engines(made, sent)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def test_the_second_of_two_devices_finds_the_first_and_both_are_notified(engines: Engines) -> None:
    waiting = await engines.seek("a")
    assert isinstance(waiting, DeviceWaiting)
    paired = await engines.seek("b", lat=1, connection_id=2)
    assert isinstance(paired, DevicePaired)
    assert paired.match > waiting.since
    assert (paired.connection_id, paired.peer) == (2, "a")
    assert paired.distance == 110_000
    assert engines.sent.of("b") == [paired]
    notified = replace(paired, connection_id=1, peer="b", matched_connection_id=1, peer_connection_id=2)
    assert engines.sent.of("a") == [replace(notified, peer_revision=paired.peer_revision + 1)]
    assert await engines.pairs() == {paired.match: {"a", "b"}}
    (made,) = engines.sent.facts_of(MatchMade)
    assert (made.match, made.device, made.peer) == (paired.match, "b", "a")


async def test_a_repeated_request_changes_nothing_and_gets_the_same_answer(engines: Engines) -> None:
    first = [await engines.seek(name) for name in "abc"]
    before = await engines.last()
    for _ in range(4):  # each engine is asked about each device
        again = [await engines.seek(name) for name in "abc"]
        assert again[1:] == first[1:]
        assert isinstance(again[0], DevicePaired)
    assert await engines.leave("x") == await engines.leave("x") == DeviceGone(connection_id=1)
    written = await engines.last()
    assert written == before + 1, "one tombstone of x"
    await engines.leave("c")
    left = await engines.last()
    for _ in range(3):
        assert await engines.leave("c") == DeviceGone(connection_id=1)
    assert await engines.last() == left
    assert len(engines.sent.facts) == 1


async def test_sixty_devices_that_arrive_at_once_make_thirty_pairs(engines: Engines) -> None:
    answers = await asyncio.gather(*(engines.seek(f"d{i}", lat=i / 100) for i in range(60)))
    assert len(answers) == 60
    devices, pairs = await engines.devices(), await engines.pairs()
    assert len(pairs) == 30
    assert Counter(name for both in pairs.values() for name in both) == Counter(f"d{i}" for i in range(60))
    for name, record in devices.items():
        assert record.match is not None
        assert record.peer is not None
        assert pairs[record.match] == {name, record.peer}
        assert devices[record.peer].peer == name
        assert state_of(record, 0, devices[record.peer]) in engines.sent.matches_of(name)
    assert len(engines.sent.facts_of(MatchMade)) == 30


async def test_the_peer_of_a_leaving_device_is_matched_at_once_with_a_third_that_waits(
    engines: Engines,
) -> None:
    await engines.seek("a")
    first = await engines.seek("b")
    assert isinstance(first, DevicePaired)
    assert isinstance(await engines.seek("c"), DeviceWaiting)
    await engines.leave("a")
    devices = await engines.devices()
    assert set(devices) == {"b", "c"}
    second = devices["b"].match
    assert second is not None
    assert second > first.match
    assert await engines.pairs() == {second: {"b", "c"}}
    assert DeviceUnpaired(connection_id=1, match=first.match, reason="left") in engines.sent.of("b")
    for name, peer in (("b", "c"), ("c", "b")):
        assert state_of(devices[name], 0, devices[peer]) in engines.sent.matches_of(name)
    (ended,) = engines.sent.facts_of(MatchEnded)
    assert (ended.match, ended.device, ended.peer, ended.reason) == (first.match, "a", "b", "left")


async def test_a_leave_while_another_claims_leaves_no_half_match(engines: Engines) -> None:
    rounds = [f"app{i}" for i in range(40)]
    await asyncio.gather(*(engines.seek("a", app=app) for app in rounds))
    both = [ask for app in rounds for ask in (engines.seek("b", app=app), engines.leave("a", app=app))]
    await asyncio.gather(*both)
    entries = await engines.entries()
    assert Counter(entry.key.split(".")[2] for entry in entries) == {"b": 40}
    for entry in entries:
        assert decode_device(entry.value or b"").match is None
    assert len(engines.sent.facts_of(MatchMade)) == len(engines.sent.facts_of(MatchEnded))


async def test_a_newer_connection_takes_over_and_the_older_is_notified(engines: Engines) -> None:
    await engines.seek("a", connection_id=5)
    match = await engines.seek("b")
    assert isinstance(match, DevicePaired)
    assert isinstance(await engines.seek("a", connection_id=6, lat=5, edge="other"), DeviceWaiting)
    assert DeviceReplaced(connection_id=5, by=6, edge="other") in engines.sent.of("a")
    assert DeviceUnpaired(connection_id=1, match=match.match, reason="replaced") in engines.sent.of("b")
    devices = await engines.devices()
    assert (devices["a"].connection_id, devices["a"].edge, devices["a"].match) == (6, "other", None)
    assert devices["b"].match is None
    assert await engines.pairs() == {}
    before = await engines.last()
    late = await engines.seek("a", connection_id=5)
    assert isinstance(late, DeviceReplaced)
    assert (late.by, late.edge) == (6, "other")
    assert await engines.leave("a", connection_id=5) == DeviceGone(connection_id=5)
    assert await engines.last() == before


async def test_a_request_that_arrives_after_its_connection_has_left_enters_no_device(
    engines: Engines,
) -> None:
    await engines.leave("a", connection_id=7)
    assert await engines.seek("a", connection_id=7) == DeviceGone(connection_id=7)
    assert await engines.seek("a", connection_id=6) == DeviceReplaced(connection_id=6, by=7, edge="e")
    assert await engines.devices() == {}
    assert isinstance(await engines.seek("a", connection_id=8), DeviceWaiting)


async def test_devices_announced_again_after_the_loss_of_the_bucket_are_matched_under_larger_numbers(
    engines: Engines, nats_server: NatsServer
) -> None:
    await engines.seek("a")
    first = await engines.seek("b")
    assert isinstance(first, DevicePaired)
    assert isinstance(await engines.seek("c"), DeviceWaiting)

    def power_cut() -> None:
        nats_server.kill()
        nats_server.restart()

    await asyncio.to_thread(power_cut)
    await eventually(lambda: all(e.bus.connected for e in engines.engines), what="connected again")
    await asyncio.gather(*(engines.seek(name) for name in "ab"))
    devices = await engines.devices()
    match = devices["a"].match
    assert match is not None
    assert match > first.match
    assert await engines.pairs() == {match: {"a", "b"}}
    for engine in engines.engines:
        await eventually(lambda e=engine: e.watch.ready and len(e.roster) == 2, what="c forgotten")
