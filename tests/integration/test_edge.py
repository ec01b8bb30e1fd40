"""Edges and workers with real sockets and a real NATS: what devices receive, and what is rejected."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text

Start = Callable[..., Service]


@pytest.fixture
def edges(nats_server: NatsServer, start: Start) -> list[Service]:
    """Two edges and two workers on one bus."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    for _ in range(2):
        start("match-engine", bus)
    return [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]


async def closed(socket: ClientConnection) -> int:
    """Return the close code of a connection that the edge closes."""
    await asyncio.wait_for(socket.wait_closed(), 10)
    assert socket.close_code is not None
    return socket.close_code


@contextlib.asynccontextmanager
async def pair(edges: list[Service]) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    async with device(edges[0], "a", 1, 1) as a, device(edges[1], "c", 1, 2) as c:
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"
        yield a, c


async def test_payloads_arrive_in_order_both_ways_whatever_their_size(edges: list[Service]) -> None:
    texts = ["ciao", "ciào", "", "漢字 😀", "x" * 262_144, "é" * 131_072, *(f"n{i}" for i in range(3000))]
    async with pair(edges) as (a, c):

        async def send(socket: ClientConnection) -> None:
            for text in texts:
                await socket.send(text)

        async def receive(socket: ClientConnection, peer: str) -> None:
            for text in texts:
                assert await receive_text(socket) == f"device {peer} says: {text}"

        await asyncio.gather(send(a), send(c), receive(a, "c"), receive(c, "a"))


async def test_a_third_device_waits_and_is_matched_when_its_neighbour_is_free(edges: list[Service]) -> None:
    async with pair(edges) as (a, c), device(edges[1], "b", 1, 3) as b:
        await a.close()
        assert await receive_text(c) == "I matched with device 'b'!"
        assert await receive_text(b) == "I matched with device 'c'!"
        await b.send("hello")
        assert await receive_text(c) == "device b says: hello"


async def test_by_the_rule_of_2019_devices_two_degrees_apart_wait(edges: list[Service]) -> None:
    async with pair(edges) as (_, c), device(edges[1], "b", 1, 3) as b:
        await c.close()
        await eventually(lambda: edges[0].metric("cloudmatch_edge_matched") == 0, what="a without a match")
        # a and b wait, out of each other's reach. A neighbour of both finds b, the nearer one.
        async with device(edges[0], "d", 1, 2.2) as d:
            assert await receive_text(d) == "I matched with device 'b'!"
            assert await receive_text(b) == "I matched with device 'd'!"


async def test_apps_tags_and_radii_keep_devices_apart(edges: list[Service]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for name, more in {
            "other-app": {"app": "other"},
            "red": {"tag": "red"},
            "near-sighted": {"radius": 1000},
        }.items():
            await stack.enter_async_context(device(edges[0], name, 1, 1, **more))
        plain = await stack.enter_async_context(device(edges[1], "plain", 1, 1.5))
        red = await stack.enter_async_context(device(edges[1], "red2", 1, 1.5, tag="red"))
        assert await receive_text(red) == "I matched with device 'red'!"
        partner = await stack.enter_async_context(device(edges[0], "partner", 1, 1.6))
        assert await receive_text(plain) == "I matched with device 'partner'!"
        assert await receive_text(partner) == "I matched with device 'plain'!"


async def test_a_newer_connection_of_the_same_id_replaces_the_older_across_edges(
    edges: list[Service],
) -> None:
    async with pair(edges) as (a, c), device(edges[1], "a", 1, 1) as newer:
        assert await closed(a) == 4001
        assert await receive_text(c) == "I matched with device 'a'!"
        assert await receive_text(newer) == "I matched with device 'c'!"
        await c.send("still you?")
        assert await receive_text(newer) == "device c says: still you?"


async def test_a_newer_connection_on_the_same_edge_replaces_the_older(edges: list[Service]) -> None:
    async with device(edges[0], "a", 1, 1) as older, device(edges[0], "a", 1, 1):
        assert await closed(older) == 4001


async def test_binary_closes_with_1003_and_the_peer_is_matched_again(edges: list[Service]) -> None:
    async with pair(edges) as (a, c):
        await a.send(b"\x00")
        assert await closed(a) == 1003
        async with device(edges[0], "d", 1, 2) as d:
            assert await receive_text(d) == "I matched with device 'c'!"
            assert await receive_text(c) == "I matched with device 'd'!"


async def test_a_payload_over_the_limit_closes_with_1009(nats_server: NatsServer, start: Start) -> None:
    edge = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_MAX_PAYLOAD": "10"})
    async with device(edge, "a", 1, 1) as a:
        await a.send("x" * 10)
        await a.send("x" * 11)
        assert await closed(a) == 1009


async def test_text_that_is_not_utf8_closes_with_1007(edges: list[Service]) -> None:
    async with pair(edges) as (a, c):
        await a.send("before")
        await a.send(b"\xc3(", text=True)
        assert await closed(a) == 1007
        assert await receive_text(c) == "device a says: before"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("lat=1&lon=1", "id"),
        ("id=a&lat=91&lon=1", "lat"),
        ("id=a&lat=1&lon=x", "lon"),
        ("id=a&lat=1&lon=1&radius=0", "radius"),
    ],
)
async def test_bad_parameters_are_rejected_before_the_upgrade(
    nats_server: NatsServer, start: Start, query: str, parameter: str
) -> None:
    edge = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url})
    with pytest.raises(InvalidStatus) as rejected:
        await connect(edge.url.replace("http", "ws") + f"/device/connect?{query}")
    assert rejected.value.response.status_code == 400
    error = json.loads(rejected.value.response.body)["error"]
    assert (error["code"], error["parameter"]) == ("bad_parameter", parameter)


async def test_a_device_that_offers_only_unknown_subprotocols_is_rejected(
    nats_server: NatsServer, start: Start
) -> None:
    edge = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url})
    with pytest.raises(InvalidStatus) as rejected:
        await connect(
            edge.url.replace("http", "ws") + "/device/connect?id=a&lat=1&lon=1",
            subprotocols=["graphql-ws"],  # type: ignore[list-item]  # a str will do
        )
    assert rejected.value.response.status_code == 400


async def test_pages_from_other_origins_are_rejected_only_if_origins_are_listed(
    nats_server: NatsServer, start: Start
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    anyone = start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": "anyone"})
    listed = start("edge", {**bus, "CLOUDMATCH_EDGE_ORIGINS": "https://other.example, https://Good.example/"})
    path = "/device/connect?id=a&lat=1&lon=1"
    for edge, origin in ((anyone, "null"), (listed, "https://good.example"), (listed, None)):
        async with connect(edge.url.replace("http", "ws") + path, origin=origin):  # type: ignore[arg-type]  # a str will do
            pass
    with pytest.raises(InvalidStatus) as rejected:
        await connect(listed.url.replace("http", "ws") + path, origin="https://bad.example")  # type: ignore[arg-type]  # the same
    assert rejected.value.response.status_code == 403
    assert json.loads(rejected.value.response.body)["error"]["code"] == "forbidden_origin"


async def test_a_payload_without_a_match_is_dropped_and_counted(edges: list[Service]) -> None:
    async with device(edges[0], "a", 1, 1) as a:
        await a.send("anybody?")
        await eventually(lambda: edges[0].metric("cloudmatch_edge_payloads_undelivered_total") == 1)
        async with device(edges[1], "c", 1, 2) as c:
            assert await receive_text(c) == "I matched with device 'a'!"
            assert await receive_text(a) == "I matched with device 'c'!"
            await a.send("somebody!")
            assert await receive_text(c) == "device a says: somebody!", "the first one is not kept"


async def test_payloads_sent_before_a_device_leaves_are_delivered(edges: list[Service]) -> None:
    async with pair(edges) as (a, c):
        for i in range(200):
            await a.send(f"n{i}")
        await a.close()
        for i in range(200):
            assert await receive_text(c) == f"device a says: n{i}"


async def test_an_edge_that_shuts_down_closes_with_1001_and_frees_the_peers(edges: list[Service]) -> None:
    async with pair(edges) as (a, c):
        await asyncio.gather(asyncio.to_thread(edges[0].terminate), closed(a))
        assert a.close_code == 1001
        async with device(edges[1], "d", 1, 2) as d:
            assert await receive_text(d) == "I matched with device 'c'!"
            assert await receive_text(c) == "I matched with device 'd'!"


async def test_devices_that_connect_before_any_worker_are_matched_when_one_starts(
    nats_server: NatsServer, start: Start
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    edge = start("edge", bus)
    async with device(edge, "a", 1, 1) as a, device(edge, "c", 1, 2) as c:
        await asyncio.to_thread(start, "match-engine", bus)
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"


async def test_a_restart_of_nats_loses_the_pool_but_no_connection(
    edges: list[Service], nats_server: NatsServer
) -> None:
    async with pair(edges) as (a, c):
        await a.send("before")
        assert await receive_text(c) == "device a says: before"
        await asyncio.to_thread(nats_server.kill)
        await asyncio.to_thread(nats_server.restart)
        # Both are reported and matched again, with each other: there is no other device.
        assert (await receive_text(a), await receive_text(c)) == (
            "I matched with device 'c'!",
            "I matched with device 'a'!",
        )
        await a.send("after")
        assert await receive_text(c) == "device a says: after"
