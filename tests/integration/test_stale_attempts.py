"""Of a device's connections the one that its client asked for last is the newest, whichever is read last."""

import asyncio
import contextlib
import itertools
import signal
import socket
import struct
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection

from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers

RESET = struct.pack("ii", 1, 0)  # SO_LINGER of a socket whose close is a reset
STAMP = 0.02  # s; the kernel's stamps, by which attempts on two edges are ordered, are 10 ms apart
FROZEN = 1.5  # s; an edge that stands still for longer counts as dead
HANDSHAKE = (
    "GET /device/connect?id={}&lat=0&lon=0&tag={} HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def edges(nats_server: NatsServer, start: Callable[..., Service]) -> list[Service]:
    """Two edges and a worker."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many devices; even."""
    return int(request.config.getoption("--attempts"))


def name(number: int) -> str:
    return f"d{number:04}"


def attempt(edge: Service, number: int) -> socket.socket:
    """Ask an edge for a connection, and wait for no answer."""
    where = urlsplit(edge.url)
    sock = socket.create_connection((where.hostname, where.port), 5)
    sock.sendall(HANDSHAKE.format(name(number), number // 2).encode())
    return sock


def live(edge: Service, number: int) -> contextlib.AbstractAsyncContextManager[ClientConnection]:
    """A connection of the same device. Those of a pair have a tag of their own."""
    return device(edge, name(number), 0, 0, close_timeout=1, tag=number // 2)


def give_up(sock: socket.socket, *, reset: bool) -> None:
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def read_to_the_end(sock: socket.socket) -> None:
    with sock:
        sock.settimeout(10)
        while sock.recv(4096):
            pass


async def connected(stack: contextlib.AsyncExitStack, edge: Service, count: int) -> list[ClientConnection]:
    """Connect all devices to an edge, and see each matched with its neighbour."""
    sockets = [await stack.enter_async_context(live(edge, n)) for n in range(count)]
    for number, each in enumerate(sockets):
        assert await receive_text(each) == f"I matched with device '{name(number ^ 1)}'!"
    return sockets


async def exchange(sockets: list[ClientConnection]) -> None:
    """Every device is in a match with its neighbour, in the end."""

    async def speak() -> None:
        while True:
            for each in sockets:
                await each.send("here")
            await asyncio.sleep(0.2)

    async def hear(number: int) -> None:
        while await receive_text(sockets[number]) != f"device {name(number ^ 1)} says: here":
            pass

    speaking = asyncio.create_task(speak())
    await asyncio.gather(*map(hear, range(len(sockets))))
    speaking.cancel()
    assert [each.close_code for each in sockets] == [None] * len(sockets)


async def test_attempts_that_a_frozen_edge_reads_late_throw_nobody_out(
    edges: list[Service], count: int
) -> None:
    """A third is closed, a third is reset, a third still waits for an answer."""
    frozen, other = edges
    frozen.process.signal(signal.SIGSTOP)
    try:
        attempts = [attempt(frozen, number) for number in range(count)]
        for number, sock in enumerate(attempts):
            if number % 3:
                give_up(sock, reset=number % 3 == 1)
        async with contextlib.AsyncExitStack() as stack:
            sockets = await connected(stack, other, count)
            await asyncio.sleep(FROZEN)
            frozen.process.signal(signal.SIGCONT)
            for sock in attempts[::3]:
                await asyncio.to_thread(read_to_the_end, sock)
            closed = len(attempts[2::3])  # what is reset is not even read

            def all_read() -> bool:
                return frozen.metric("cloudmatch_edge_connections_abandoned_total") >= closed

            await eventually(all_read, 10, "abandoned attempts are read")
            await exchange(sockets)
    finally:
        frozen.process.signal(signal.SIGCONT)


async def test_an_attempt_closed_at_once_throws_out_no_connection_that_follows_on_another_edge(
    edges: list[Service], count: int
) -> None:
    """As pages do that are loaded again and again."""
    turns = itertools.cycle(edges)
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for number in range(count):
            for _ in range(2):
                give_up(attempt(next(turns), number), reset=number % 2 == 0)
            edge = next(turns)
            await asyncio.sleep(STAMP)
            sockets.append(await stack.enter_async_context(live(edge, number)))
        await exchange(sockets)
