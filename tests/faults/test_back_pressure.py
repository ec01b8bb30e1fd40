"""A device that does not read slows its peer down: nothing is dropped, and memory stays bounded.

What one stalled direction may hold, over both edges:

    sending edge     in flight: 256 KiB and one payload more (256 KiB)
                     one read of the socket (256 KiB), and a frame of which the end is missing (256 KiB)
    receiving edge   the socket's write buffer: 64 KiB until acks are withheld, then whatever credit is
                     left: 256 KiB and one payload more

That is 1,600 KiB. Half as much again is allowed for Python's overhead (some 100 bytes per payload, at most
256 of them) and for memory that its allocator has not returned. The sockets' own buffers are the kernel's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from faults.client import Client, connect, peer_of
from harness import NatsServer, Service, eventually

pytestmark = pytest.mark.servers

KIB = 1024
PER_DIRECTION = (256 + 256 + 256 + 256 + 64 + 256 + 256) * KIB * 3 // 2
SMALL = 16 * KIB  # of the clients' socket buffers, so that they hold little
QUIET = 1.0  # s without any change: stalled


class Device:
    """A device that keeps all payloads it receives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[str] = []
        self.matched = asyncio.Event()
        self.client: Client

    def on_text(self, text: str) -> None:
        if peer_of(text) is not None:
            self.matched.set()
        elif text.startswith("device "):
            self.received.append(text.partition(" says: ")[2])


Start = Callable[..., Service]


@pytest.fixture
def edges(nats_server: NatsServer, start: Start) -> list[Service]:
    """Two edges and a worker."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]


@asynccontextmanager
async def pairs(edges: list[Service], number: int) -> AsyncIterator[list[tuple[Device, Device]]]:
    """Matched devices: each pair's first on the first edge, its second on the second."""
    made = [(Device(f"a{i}"), Device(f"b{i}")) for i in range(number)]
    try:
        for i, pair in enumerate(made):
            for device, edge in zip(pair, edges, strict=True):
                lat, lon = 3 * (i // 100) - 60, 3 * (i % 100) - 150
                device.client = await connect(
                    edge.url, device.on_text, buffer=SMALL, id=device.name, lat=lat, lon=lon
                )
        for device in (device for pair in made for device in pair):
            await asyncio.wait_for(device.matched.wait(), 30)
        yield made
    finally:
        for device in (device for pair in made for device in pair):
            if hasattr(device, "client") and not device.client.closed.done():
                device.client.transport.abort()


async def send_until_stalled(device: Device, size: int) -> int:
    """Send numbered payloads of `size` characters until the edge accepts no more; return how many."""
    for number in count():
        device.client.send(f"{number} ".ljust(size, "x"))
        if not device.client.writable.is_set():
            try:
                await asyncio.wait_for(device.client.writable.wait(), QUIET)
            except TimeoutError:
                return number + 1
    raise AssertionError


async def send_until_closed(device: Device, size: int) -> None:
    """Send payloads of `size` characters, as fast as the edge accepts them, until the connection ends."""
    while True:
        await device.client.writable.wait()  # also set when the connection ends
        if not device.client.open:
            return
        device.client.send("x" * size)


def memory(edges: list[Service]) -> int:
    """Return the resident memory of both edges in bytes."""
    pages = (int(Path(f"/proc/{e.process.pid}/statm").read_text().split()[1]) for e in edges)
    return sum(pages) * 4096


async def test_a_device_that_does_not_read_stalls_its_peer_and_then_receives_all_in_order(
    edges: list[Service],
) -> None:
    async with pairs(edges, 1) as [(a, b)]:
        b.client.transport.pause_reading()
        sent = await send_until_stalled(a, 4 * KIB)
        # What the sending edge accepted is in flight, on the other edge or in that device's socket.
        accepted = edges[0].metric("cloudmatch_edge_payloads_sent_total")
        assert 256 * KIB / (4 * KIB) <= accepted < sent
        assert len(b.received) < sent

        b.client.transport.resume_reading()
        await eventually(lambda: len(b.received) == sent, 30, "everything arrives")
        assert [int(text.split()[0]) for text in b.received] == list(range(sent))
        assert edges[0].metric("cloudmatch_edge_payloads_undelivered_total") == 0
        assert a.client.open
        assert b.client.open

        a.client.send("one more")
        await eventually(lambda: b.received[-1] == "one more", 10)


async def test_what_a_device_sends_while_it_does_not_read_waits_and_is_not_lost(edges: list[Service]) -> None:
    async with pairs(edges, 1) as [(a, b)]:
        b.client.transport.pause_reading()
        sent = await send_until_stalled(a, 4 * KIB)
        b.client.send(*(f"n{i}" for i in range(1000)))
        await asyncio.sleep(QUIET)
        assert a.received == [], "its socket is full: it is not read"
        b.client.transport.resume_reading()
        await eventually(lambda: len(a.received) == 1000, 10, "payloads of the device that did not read")
        assert a.received == [f"n{i}" for i in range(1000)]
        await eventually(lambda: len(b.received) == sent, 30)


@pytest.mark.parametrize(("number", "size"), [(100, 256 * KIB), (200, 60_000), (20, 200)])
async def test_stalled_pairs_take_a_bounded_amount_of_memory(
    edges: list[Service], number: int, size: int
) -> None:
    async with pairs(edges, number) as made:
        before = memory(edges)
        for _, b in made:
            b.client.transport.pause_reading()
        sent = await asyncio.gather(*(send_until_stalled(a, size) for a, _ in made))
        grown = (memory(edges) - before) / number
        print(  # what pytest -s shows  # noqa: T201
            f"{number} stalled directions, {sum(sent)} payloads of {size} bytes: "
            f"{grown / KIB:.0f} KiB each, bound {PER_DIRECTION / KIB:.0f} KiB"
        )
        assert grown < PER_DIRECTION

        for _, b in made:
            b.client.transport.resume_reading()
        await eventually(lambda: all(len(b.received) == n for (_, b), n in zip(made, sent, strict=True)), 60)
        for (_, b), count_sent in zip(made, sent, strict=True):
            assert [int(text.split()[0]) for text in b.received] == list(range(count_sent))


async def test_a_device_that_reads_again_in_time_is_not_closed_and_one_that_does_not_is_with_its_peer(
    nats_server: NatsServer, start: Start
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_PATIENCE": "4"}
    start("match-engine", bus)
    edges = [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]
    async with pairs(edges, 1) as [(a, b)]:
        b.client.transport.pause_reading()
        sent = await send_until_stalled(a, 4 * KIB)
        b.client.transport.resume_reading()
        await eventually(lambda: len(b.received) == sent, 10)

        b.client.transport.pause_reading()
        await asyncio.wait_for(send_until_closed(a, 4 * KIB), 30)
        assert await asyncio.wait_for(asyncio.shield(a.client.closed), 10) == 1013
        code = 'cloudmatch_edge_connections_total{code="1013"} 1.0'
        await eventually(lambda: all(code in edge.get("/metrics")[1] for edge in edges), 10)
