"""Edges that die, freeze or leave, and devices that return: real workers, edges without sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import cloudmatch
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER
from cloudmatch_bus.contract.messages import (
    DeviceGone,
    DevicePaired,
    DeviceUnpaired,
    DeviceWaiting,
    Heartbeat,
    PeerAway,
    PeerReturned,
    encode,
)
from cloudmatch_match_engine.sweeps import SWEEP_INTERVAL
from faults.link import Link
from harness import NatsServer, Service
from harness.edges import Device, FakeEdge, fake_edge

pytestmark = pytest.mark.servers

# a session that outlives its connections
SESSION = {"grace": 30.0, "token": "t"}
SHORT = {"grace": 0.5, "token": "t"}
MakeEdge = Callable[[str], Awaitable[FakeEdge]]


@pytest.fixture
def workers(nats_server: NatsServer, start: Callable[..., Service]) -> list[Service]:
    return [start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url}) for _ in range(2)]


@pytest.fixture
async def edge(nats_server: NatsServer, workers: list[Service]) -> AsyncIterator[MakeEdge]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(name: str) -> FakeEdge:
            return await stack.enter_async_context(fake_edge(nats_server.url, name))

        yield make


def received(device: Device, kind: type) -> list[object]:
    return [answer for answer in device.history if isinstance(answer, kind)]


async def pair(one: FakeEdge, other: FakeEdge, **more: object) -> tuple[Device, Device]:
    a = await one.connect("a", **more)
    b = await other.connect("b", **more)
    for device in (a, b):
        await device.until(lambda d: d.match is not None)
    return a, b


async def test_nobody_announces_the_end_of_an_edge_but_that_edge(edge: MakeEdge) -> None:
    honest, other = await edge("edge-0"), await edge("edge-1")
    a, b = await pair(honest, honest)
    c = await honest.connect("c", tag="other")
    await (await other.connect("d", tag="other")).until(lambda d: d.match is not None)
    for incarnation in (0, 2**52):
        lie = Heartbeat(role="edge", name="edge-0", leaving=True, incarnation=incarnation)
        other.bus.publish(subjects.heartbeat("edge", "edge-1"), encode(lie))
    await other.end(leaving=True)  # this is true
    await c.until(lambda d: bool(received(d, DeviceUnpaired)))
    assert a.match == b.match is not None


async def test_a_session_resumes_its_match_from_another_edge_and_its_peer_is_notified(
    edge: MakeEdge,
) -> None:
    one, two = await edge("one"), await edge("two")
    a, b = await pair(one, one, **SESSION)
    await one.drop(a)
    await b.until(lambda d: bool(received(d, PeerAway)))
    again = await two.connect("a", **SESSION, resume=True)
    paired = again.history[-1]
    assert isinstance(paired, DevicePaired)
    assert (paired.match, paired.peer, paired.matched_connection_id) == (
        a.match,
        "b",
        a.request.connection_id,
    )
    assert (paired.peer_edge, paired.peer_connection_id) == ("one", b.request.connection_id)
    await b.until(lambda d: bool(received(d, PeerReturned)))
    (returned,) = received(b, PeerReturned)
    assert returned.peer_revision > (a.match or 0)
    assert returned == PeerReturned(
        connection_id=b.request.connection_id,
        match=a.match or 0,
        peer_edge="two",
        peer_connection_id=again.request.connection_id,
        peer_revision=returned.peer_revision,
    )
    third = await one.connect("a", **SESSION, resume=True)
    assert third.match == a.match
    await again.until(lambda d: d.replaced)
    fresh = await two.connect("a", **{**SESSION, "token": "other"})
    assert isinstance(fresh.history[-1], DeviceWaiting | DevicePaired)
    await b.until(lambda d: any(isinstance(n, DeviceUnpaired) and n.match == a.match for n in d.history))


async def test_an_edge_that_drops_a_replaced_connection_ends_no_session(edge: MakeEdge) -> None:
    one = await edge("one")
    a, b = await pair(one, one, **SESSION)
    await one.leave(a, "replaced")  # before the newer connection has asked
    again = await one.connect("a", **SESSION, resume=True)
    assert again.match == a.match
    await one.leave(again)
    await b.until(lambda d: d.match is None)


async def test_a_device_that_does_not_return_within_its_grace_is_removed(edge: MakeEdge) -> None:
    one = await edge("one")
    a, b = await pair(one, one, **SHORT)
    match = a.match
    assert isinstance(await one.drop(a), DevicePaired), "still in its match during its grace"
    await b.until(lambda d: d.match is None)
    assert (
        DeviceUnpaired(connection_id=b.request.connection_id, match=match or 0, reason="expired") in b.history
    )
    late = await one.connect("a", lat=50, **SHORT, resume=True)
    assert isinstance(late.history[-1], DeviceWaiting), "a fresh start"


@pytest.mark.parametrize("reason", ["unmatched", "expired"])
async def test_devices_whose_match_ends_are_matched_with_others(edge: MakeEdge, reason: str) -> None:
    one = await edge("one")
    a, b = await pair(one, one)
    match = a.match
    await one.unmatch(a, silent=reason == "expired")
    await b.until(lambda d: d.match is None)
    assert a.match is None
    told = [each for each in b.history if isinstance(each, DeviceUnpaired)]
    assert [(each.match, each.reason) for each in told] == [(match, reason)]
    c = await one.connect("c")
    await c.until(lambda d: d.match is not None)
    d = await one.connect("d")
    await d.until(lambda d: d.match is not None)
    assert {c.peer, d.peer} == {"a", "b"}


async def test_a_device_that_moves_is_matched_at_its_new_location(edge: MakeEdge) -> None:
    one = await edge("one")
    a, b = await one.connect("a", lat=10), await one.connect("b", lat=20)
    await one.move(a, 20, 0)
    await b.until(lambda d: d.peer == "a")
    match = a.match
    await one.move(a, 30, 0)
    assert a.match == match, "a match outlives a move"


async def test_the_peers_of_the_devices_of_a_killed_edge_are_free_again(
    edge: MakeEdge, nats_server: NatsServer
) -> None:
    one, two = await edge("one"), await edge("two")
    here = await asyncio.gather(
        *(one.connect(f"a{i}", lat=2 * (i % 30), lon=3 * (i // 30)) for i in range(250))
    )
    there = await asyncio.gather(
        *(two.connect(f"b{i}", lat=2 * (i % 30), lon=3 * (i // 30)) for i in range(250))
    )
    for device in (*here, *there):
        await device.until(lambda d: d.match is not None)
    await one.end()
    for device in there:
        await device.until(lambda d: d.match is None, 20)
        assert DeviceUnpaired in map(type, device.history)
    late = await two.connect("late", lat=0, lon=0)
    assert late.peer == "b0", "no dead device is in the pool"


async def test_a_frozen_edge_that_resumes_learns_that_its_classic_devices_were_removed(
    edge: MakeEdge,
) -> None:
    one, two = await edge("one"), await edge("two")
    a, b = await pair(one, two)
    one.frozen = True
    await b.until(lambda d: d.match is None, 20)
    one.frozen = False
    await one.announce()
    assert isinstance(a.history[-1], DeviceGone)


async def test_a_frozen_edge_that_resumes_keeps_devices_within_their_grace(edge: MakeEdge) -> None:
    one, two = await edge("one"), await edge("two")
    a, b = await pair(one, two, **SESSION)
    match = b.match
    one.frozen = True
    await b.until(lambda d: bool(received(d, PeerAway)), 20)
    one.frozen = False
    await one.announce()
    assert a.match == match
    await b.until(lambda d: bool(received(d, PeerReturned)))
    assert b.match == match


async def test_an_edge_that_restarts_under_its_name_removes_its_old_devices(edge: MakeEdge) -> None:
    one, two = await edge("one"), await edge("two")
    _, b = await pair(one, two)
    one.incarnation += 1  # as another process, to which no device is connected
    await b.until(lambda d: d.match is None, 20)
    c = await one.connect("c")
    await c.until(lambda d: d.peer == "b")


async def test_the_devices_of_an_edge_that_leaves_are_removed(edge: MakeEdge) -> None:
    one, two = await edge("one"), await edge("two")
    _, b = await pair(one, two)
    await one.end(leaving=True)
    await b.until(lambda d: d.match is None, 20)


async def test_a_worker_that_was_cut_off_declares_no_edge_dead(
    nats_server: NatsServer, start: Callable[..., Service]
) -> None:
    async with (
        Link(nats_server.port) as link,
        fake_edge(nats_server.url, "one") as one,
        fake_edge(nats_server.url, "two") as two,
    ):
        wired = {"CLOUDMATCH_NATS_URL": f"nats://127.0.0.1:{link.port}"}
        worker = await asyncio.to_thread(start, "match-engine", wired)
        a, b = await pair(one, two)
        link.cut()
        await asyncio.sleep(EDGE_DEAD_AFTER + 1)
        link.heal()
        c = await one.connect("c", lat=1)  # once it is answered, so is everything before
        await c.until(lambda d: bool(received(d, DeviceWaiting)))
        await asyncio.sleep(2 * SWEEP_INTERVAL)
        assert not received(a, DeviceUnpaired)
        assert not received(b, DeviceUnpaired)
        assert worker.metric("cloudmatch_match_engine_released") == 0


async def test_an_edge_that_was_cut_off_keeps_its_devices(
    nats_server: NatsServer, start: Callable[..., Service]
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    await asyncio.to_thread(start, "match-engine", bus)
    async with Link(nats_server.port) as link, fake_edge(nats_server.url, "one") as one:
        cut = {"CLOUDMATCH_NATS_URL": f"nats://127.0.0.1:{link.port}", "CLOUDMATCH_EDGE_NAME": "two"}
        two = await asyncio.to_thread(start, "edge", cut)
        a = await one.connect("a", **SESSION)
        async with cloudmatch.connect(two.url, id="b", app="demo", lat=0, lon=0) as b:
            await b.matched()
            await a.until(lambda d: d.match is not None)
            link.cut()
            await a.until(lambda d: bool(received(d, PeerAway)), 10)
            link.heal()
            await a.until(lambda d: bool(received(d, PeerReturned)), 10)
            assert b.state == "matched"
