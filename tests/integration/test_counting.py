"""An edge counts what it delivers: each payload once, however long facts cannot be stored."""

import asyncio
from collections.abc import Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect

from cloudmatch_bus.client.consumer import history, position_range
from cloudmatch_bus.client.provision import ensure_provisioned
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.deliveries import Span
from cloudmatch_bus.contract.messages import DeliveriesCounted
from harness import NatsServer, Service, eventually
from harness.bus import connected

pytestmark = pytest.mark.servers

PAIRS = 4


@pytest.fixture
def edge(nats_server: NatsServer, start: Callable[..., Service]) -> Service:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return start("edge", bus)


async def matched(edge: Service, app: int, name: str) -> ClientConnection:
    """Connect a device, and return once it is matched."""
    url = edge.url.replace("http", "ws") + f"/device/connect?app=app-{app}&lat=1&lon=1&id={name}"
    socket = await connect(url)
    assert "Connected" in str(await asyncio.wait_for(socket.recv(), 10))
    return socket


async def pairs(edge: Service) -> list[tuple[ClientConnection, ClientConnection]]:
    """Connect a pair of devices in each of some apps."""
    made = [(await matched(edge, app, "a"), await matched(edge, app, "b")) for app in range(PAIRS)]
    for pair in made:
        for socket in pair:
            assert "matched" in str(await asyncio.wait_for(socket.recv(), 10))
    return made


async def test_while_facts_cannot_be_stored_sizes_are_merged_and_then_each_is_counted_once(
    edge: Service, nats_server: NatsServer
) -> None:
    sent: dict[str, list[int]] = {f"app-{app}": [] for app in range(PAIRS)}
    async with connected(nats_server.url) as bus:
        sockets = await pairs(edge)
        await bus.jetstream().delete_stream(streams.EVENTS)
        for number in range(40):
            for app, (a, b) in enumerate(sockets):
                for size in (number, 100 - number):
                    await a.send("x" * size)
                    sent[f"app-{app}"].append(size)
                for _ in range(2):
                    await asyncio.wait_for(b.recv(), 10)
        waiting = "cloudmatch_edge_payloads_waiting"
        await eventually(lambda: edge.metric(waiting) == 80 * PAIRS, what="all of them wait")
        await ensure_provisioned(bus, 1)
        await eventually(lambda: edge.metric(waiting) == 0, 30, "all are stored")
        _, last = await position_range(bus)
        counted: dict[str, list[Span]] = {}
        facts = 0
        async for batch in history(bus, "test", 0, last):
            for _, fact in batch:
                if isinstance(fact, DeliveriesCounted):
                    facts += 1
                    counted.setdefault(fact.app, []).extend(fact.spans)
        for app, spans in counted.items():
            spans.sort(key=lambda span: span.first)
            assert [span.first for span in spans] == [0, *(span.end for span in spans[:-1])]
            assert [size for span in spans for size in span.each_size()] == sent[app]
        assert set(counted) == set(sent)
        assert facts < 10 * PAIRS, "they were merged"
    assert edge.metric("cloudmatch_edge_payloads_counted_total") == 80 * PAIRS
    assert edge.metric("cloudmatch_edge_payloads_uncounted") == 0
    assert edge.metric("cloudmatch_facts_refused_total") == 0
    for pair in sockets:
        for socket in pair:
            await socket.close()
