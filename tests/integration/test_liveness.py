"""Pings: what keeps a connection alive, and when a device is dead."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from cloudmatch_edge.sockets.connection import CLOSE_TIMEOUT
from fuzz.frames import handshake
from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers
HEARTBEAT = 0.2  # s
PACE, CHUNK = 0.02, 4096  # a device that reads 200 KB/s
CUT = 'cloudmatch_edge_connections_total{code="4008"}'


@pytest.fixture
def edge(nats_server: NatsServer, start: Callable[..., Service]) -> Service:
    """An edge that pings five times a second, and a worker."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return start("edge", {**bus, "CLOUDMATCH_EDGE_HEARTBEAT": str(HEARTBEAT)})


class SlowDevice:
    """A classic device on a bare socket, which never answers a ping."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.received = 0

    async def read(self, seconds: float) -> None:
        """Read steadily."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while data := await loop.sock_recv(self._sock, CHUNK):
                    self.received += len(data)
                    await asyncio.sleep(PACE)


@contextlib.asynccontextmanager
async def slow_device(edge: Service) -> AsyncIterator[SlowDevice]:
    """Connect device c."""
    parts = urlsplit(edge.url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * CHUNK)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (parts.hostname, parts.port))
        await loop.sock_sendall(sock, handshake("id=c&lat=1&lon=2", ""))
        yield SlowDevice(sock)


def cut(edge: Service) -> bool:
    return CUT in edge.get("/metrics")[1]


async def test_a_device_that_reads_slowly_is_alive_until_it_reads_no_more(edge: Service) -> None:
    async def send_on() -> None:
        while True:
            await a.send("x" * 32_000)

    async with slow_device(edge) as slow, device(edge, "a", 1, 1, close_timeout=0.1) as a:
        assert await receive_text(a) == "I matched with device 'c'!"
        sending = asyncio.create_task(send_on())
        await slow.read(5 * HEARTBEAT + CLOSE_TIMEOUT + 1)  # when it would have been cut off
        assert not cut(edge)
        assert slow.received > 10 * CHUNK
        await eventually(lambda: cut(edge), what="the device that reads no more is cut off")
        sending.cancel()


async def test_every_device_is_pinged_at_the_interval_that_welcome_tells(edge: Service) -> None:
    pings = 0

    class Counting(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            nonlocal pings
            pings += data.count(b"\x89\x00")

    url = edge.url.replace("http", "ws") + "/device/connect?id=v&lat=1&lon=9"
    async with connect(url, subprotocols=[Subprotocol("cloudmatch.v1")]) as socket:
        assert json.loads(await socket.recv())["heartbeat"] == HEARTBEAT
    parts = urlsplit(edge.url)
    transport, _ = await asyncio.get_running_loop().create_connection(Counting, parts.hostname, parts.port)
    transport.write(handshake("id=d&lat=50&lon=50", ""))
    await eventually(lambda: cut(edge), what="the silent device is cut off")
    assert pings == 4
    transport.close()
