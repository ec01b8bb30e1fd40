"""All NATS servers of a cluster are killed at once: the bucket comes back empty and its numbers repeat."""

import asyncio
from collections.abc import Callable

import pytest
from websockets.asyncio.client import ClientConnection

from harness import Service, eventually, nats_cluster
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers

EARLIER = 8  # matches before, so that numbers of later matches are lower than known ones


async def matched(socket: ClientConnection, peer: str) -> None:
    """Wait until a device is matched with `peer`."""
    assert await asyncio.wait_for(socket.recv(), 60) == f"I matched with device '{peer}'!"


async def test_devices_that_stay_connected_are_matched_again(start: Callable[..., Service]) -> None:
    with nats_cluster() as cluster:
        bus = {"CLOUDMATCH_NATS_URL": cluster.url, "CLOUDMATCH_NATS_REPLICAS": "3"}
        start("match-engine", bus)
        edges = [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]
        for number in range(EARLIER):
            names = f"x{number}", f"y{number}"
            async with (
                device(edges[0], names[0], 1, 1, tag=number) as x,
                device(edges[1], names[1], 1, 1, tag=number),
            ):
                await matched(x, names[1])
        async with device(edges[0], "a", 1, 1) as a, device(edges[1], "c", 1, 1) as c:
            await matched(a, "c")
            await matched(c, "a")
            for server in cluster.servers:
                await asyncio.to_thread(server.kill)
            await asyncio.gather(*(asyncio.to_thread(server.start) for server in cluster.servers))
            await asyncio.gather(matched(a, "c"), matched(c, "a"))
            await a.send("ciao")
            await c.send("bye")
            assert await receive_text(c) == "device a says: ciao"
            assert await receive_text(a) == "device c says: bye"
            await eventually(
                lambda: edges[0].metric("cloudmatch_edge_matched") == 1, what="one match at the edge"
            )
