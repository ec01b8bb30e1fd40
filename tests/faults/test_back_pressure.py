"""A device that does not read slows its peer down: nothing is dropped, and memory stays bounded.

What one stalled direction may hold, over both edges:

    sending edge     the window: 256 KiB and one payload more (64 KiB), not acknowledged
                     what one read of the socket brought: 256 KiB
    receiving edge   the socket's write buffer: 64 KiB until acks are withheld, then whatever the window
                     still lets through: 256 KiB and one payload more

That is 960 KiB. Half as much again is allowed for what Python adds to payloads (some 100 bytes each, at
most 256 of them) and for what its allocator has freed and not given back. What waits in the sockets' own
buffers is the kernel's.
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
PER_DIRECTION = (256 + 64 + 256 + 64 + 256 + 64) * KIB * 3 // 2
SMALL = 16 * KIB  # of the clients' socket buffers, so that little fits on the way
QUIET = 1.0  # s without any change: stalled


class Device:
    """A device that remembers what it heard, unless told not to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[str] = []
        self.matched = asyncio.Event()
        self.client: Client

    def hear(self, text: str) -> None:
        if peer_of(text) is not None:
            self.matched.set()
        elif text.startswith("device "):
            self.heard.append(text.partition(" says: ")[2])


Start = Callable[..., Service]


@pytest.fixture
def edges(nats_server: NatsServer, start: Start) -> list[Service]:
    """Two edges and a worker; a sender waits 2 s for its peer, as far as that is said below."""
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
                    edge.url, device.hear, buffer=SMALL, id=device.name, lat=lat, lon=lon
                )
        for device in (device for pair in made for device in pair):
            await asyncio.wait_for(device.matched.wait(), 30)
        yield made
    finally:
        for device in (device for pair in made for device in pair):
            if hasattr(device, "client") and not device.client.closed.done():
                device.client.transport.abort()


async def send_until_stalled(device: Device, size: int) -> int:
    """Say numbered payloads of `size` characters until the edge takes no more; give how many."""
    for number in count():
        device.client.send(f"{number} ".ljust(size, "x"))
        if not device.client.writable.is_set():
            try:
                await asyncio.wait_for(device.client.writable.wait(), QUIET)
            except TimeoutError:
                return number + 1
    raise AssertionError


async def send_until_closed(device: Device, size: int) -> None:
    """Say payloads of `size` characters, as fast as the edge takes them, until the connection ends."""
    while True:
        await device.client.writable.wait()  # set by the end, too
        if not device.client.open:
            return
        device.client.send("x" * size)


def memory(edges: list[Service]) -> int:
    """Bytes that both edges occupy."""
    pages = (int(Path(f"/proc/{e.process.pid}/statm").read_text().split()[1]) for e in edges)
    return sum(pages) * 4096


async def test_a_device_that_does_not_read_stalls_its_peer_and_then_hears_all_in_order(
    edges: list[Service],
) -> None:
    async with pairs(edges, 1) as [(a, b)]:
        b.client.transport.pause_reading()
        sent = await send_until_stalled(a, 4 * KIB)
        # What the sending edge took is in the window, on the other edge or in that device's socket.
        taken = edges[0].metric("cloudmatch_edge_payloads_sent_total")
        assert 256 * KIB / (4 * KIB) <= taken < sent
        assert len(b.heard) < sent

        b.client.transport.resume_reading()
        await eventually(lambda: len(b.heard) == sent, 30, "everything arrives")
        assert [int(text.split()[0]) for text in b.heard] == list(range(sent))
        assert edges[0].metric("cloudmatch_edge_payloads_undelivered_total") == 0
        assert a.client.open
        assert b.client.open

        a.client.send("and on it goes")
        await eventually(lambda: b.heard[-1] == "and on it goes", 10)


async def test_the_other_direction_of_a_stalled_match_goes_on(edges: list[Service]) -> None:
    async with pairs(edges, 1) as [(a, b)]:
        b.client.transport.pause_reading()
        await send_until_stalled(a, 4 * KIB)
        b.client.send(*(f"n{i}" for i in range(1000)))
        await eventually(lambda: len(a.heard) == 1000, 10, "what the device that does not read says")
        assert a.heard == [f"n{i}" for i in range(1000)]


@pytest.mark.parametrize(("number", "size"), [(200, 60_000), (20, 200)])
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
        await eventually(lambda: all(len(b.heard) == n for (_, b), n in zip(made, sent, strict=True)), 60)
        for (_, b), said in zip(made, sent, strict=True):
            assert [int(text.split()[0]) for text in b.heard] == list(range(said))


async def test_a_peer_that_makes_no_progress_closes_the_sender_with_1013_and_may_meet_another(
    nats_server: NatsServer, start: Start
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_PATIENCE": "2"}
    start("match-engine", bus)
    edges = [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]
    async with pairs(edges, 1) as [(a, b)]:
        b.client.transport.pause_reading()
        await asyncio.wait_for(send_until_closed(a, 4 * KIB), 30)
        assert await asyncio.wait_for(asyncio.shield(a.client.closed), 10) == 1013
        assert b.client.open, "who does not read is not closed: it may read again"

        b.matched.clear()
        b.client.transport.resume_reading()
        other = Device("c")
        other.client = await connect(edges[0].url, other.hear, id="c", lat=-60, lon=-150)
        await asyncio.wait_for(asyncio.gather(other.matched.wait(), b.matched.wait()), 10)
        other.client.send("and who are you?")
        await eventually(lambda: b.heard[-1:] == ["and who are you?"], 10)
        await other.client.close()
