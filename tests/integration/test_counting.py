"""Each payload delivered is counted once, however long facts cannot be stored, whichever edge dies."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from nats.js.api import DiscardPolicy
from websockets.asyncio.client import ClientConnection, connect

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.history import history, position_range
from cloudmatch_bus.client.provision import ensure_provisioned
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.deliveries import Span
from cloudmatch_bus.contract.messages import DeliveriesClaimed, DeliveriesCounted
from faults.devices import V1Device
from faults.link import Link
from faults.workload import Workload
from harness import NatsServer, Service, eventually
from harness.bus import connected
from harness.facts import Books

pytestmark = pytest.mark.servers

PAIRS = 4
KILLS = 6
KILL_EVERY = 7.0  # s: the loss of an edge is noticed before the next
GRACE = 8.0  # s until the journal grants what is only claimed


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


async def lose_stream(bus: Bus) -> None:
    """Let JetStream answer no publication."""
    config = (await bus.jetstream().stream_info(streams.EVENTS)).config
    config.subjects = ["elsewhere"]
    await bus.jetstream().update_stream(config)


async def fill_stream(bus: Bus) -> None:
    """Let JetStream refuse every publication, as it does when its disk is full."""
    config = (await bus.jetstream().stream_info(streams.EVENTS)).config
    config.max_bytes, config.discard = 1, DiscardPolicy.NEW
    await bus.jetstream().update_stream(config)


@pytest.mark.parametrize("refuse", [lose_stream, fill_stream])
async def test_while_facts_cannot_be_stored_sizes_are_merged_and_then_each_is_counted_once(
    edge: Service, nats_server: NatsServer, refuse: Callable[[Bus], Awaitable[None]]
) -> None:
    sent: dict[str, list[int]] = {f"app-{app}": [] for app in range(PAIRS)}
    async with connected(nats_server.url) as bus:
        sockets = await pairs(edge)
        await refuse(bus)
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
        async for batch in history(bus, 0, last):
            for _, fact in batch:
                match fact:
                    case DeliveriesCounted():
                        told = fact.spans
                    case DeliveriesClaimed():  # of what was not counted in time
                        told = [
                            claim.span for claim in fact.claims if claim.span and claim.span.sender == "a"
                        ]
                    case _:
                        continue
                facts += 1
                counted.setdefault(fact.app, []).extend(told)
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


@pytest.mark.timeout(240)
async def test_when_edges_are_killed_under_load_the_books_close_to_the_byte(
    nats_server: NatsServer, start: Callable[..., Service]
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    journal = start("journal", {**bus, "CLOUDMATCH_JOURNAL_CLAIM_GRACE": str(GRACE)})
    edges = [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{number}"}) for number in range(4)]
    seed = random.randrange(10**6)  # noqa: S311  # no secret
    print(f"seed {seed}")  # noqa: T201  # shown if the test fails
    chance = random.Random(seed)  # noqa: S311  # no secret
    workload = Workload(6, 600, seed, V1Device)
    # The two devices of a pair are never on one edge.
    async with Link(ports(edges[:2])) as one, Link(ports(edges[2:])) as other:
        await workload.connect([f"http://127.0.0.1:{link.port}" for link in (one, other)])
        workload.start()
        for _ in range(KILLS):
            await asyncio.sleep(chance.random())
            victim = chance.choice(edges)
            await asyncio.to_thread(victim.kill)
            await asyncio.sleep(KILL_EVERY / 2)
            await asyncio.to_thread(victim.restart)
            await asyncio.sleep(KILL_EVERY / 2)
        await workload.finish()
        try:
            assert workload.problems() == []
            assert workload.resumed > 0

            def received() -> int:
                states = [journal.get_json(f"/device/state/{d.name}") for d in workload.devices]
                return sum(state["bytesReceived"] for state in states)

            await eventually(
                lambda: received() == workload.bytes_received, 4 * GRACE, f"{workload.bytes_received} bytes"
            )
        finally:
            await workload.close()
    books = Books()
    async with connected(nats_server.url) as reader:
        _, last = await position_range(reader)
        async for batch in history(reader, 0, last):
            for position, fact in batch:
                books.fold(position, fact)
    assert books.bytes_delivered == workload.bytes_received
    assert books.counted_twice == 0
    assert journal.metric("cloudmatch_journal_granted_payloads_total") > 0


def ports(edges: list[Service]) -> Callable[[], list[int]]:
    """Return what yields the ports of edges, in random order."""

    def shuffled() -> list[int]:
        found = [int(edge.url.rpartition(":")[2]) for edge in edges]
        random.shuffle(found)
        return found

    return shuffled
