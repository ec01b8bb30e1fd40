"""One address connects devices as fast as it can: everybody else is matched as before."""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from harness import NatsServer, Service, eventually

PAIRS = 30  # of others, that are matched before and during the flood
RATE, BURST = 20, 200  # devices that an address may connect: the defaults, a second and at once
INTERVAL = 0.005  # s between two connections of the flood
NOISE = 0.03  # s by which a machine that does other things may delay half of the pairs

REQUEST = (
    "GET /device/connect?id=flood-{number}&lat=1&lon=1&app=flood HTTP/1.1\r\nHost: edge\r\n"
    "X-Forwarded-For: 203.0.113.66\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Attempt(asyncio.Protocol):
    """A connection that asks to be a device's, and closes upon the answer."""

    def __init__(self, number: int, answers: Counter[bytes]) -> None:
        self._number, self._answers = number, answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(REQUEST.format(number=self._number).encode())

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._answers[data.split(b" ")[1]] += 1
            self._transport.close()


@contextlib.asynccontextmanager
async def flood(edge: Service) -> AsyncIterator[Counter[bytes]]:
    """Connect and close; count the answers."""
    answers: Counter[bytes] = Counter()
    loop, port = asyncio.get_running_loop(), urlsplit(edge.url).port

    async def run() -> None:
        for number in itertools.count():
            await loop.create_connection(partial(Attempt, number, answers), "127.0.0.1", port)
            await asyncio.sleep(INTERVAL)

    task = asyncio.create_task(run())
    try:
        yield answers
    finally:
        task.cancel()
        await asyncio.wait({task})


async def matched(edge: Service, number: int) -> float:
    """Connect two devices from addresses of their own; return the seconds until both are matched."""
    url = edge.url.replace("http", "ws") + f"/device/connect?lat=1&lon=1&app=others&tag={number}&id="
    began = time.perf_counter()

    async def device(name: str) -> None:
        headers = {"X-Forwarded-For": f"198.51.100.{number % 250}"}
        async with connect(f"{url}{name}-{number}", additional_headers=headers, close_timeout=1) as socket:
            while "matched" not in str(await socket.recv()):
                pass
            await both.wait()

    both = asyncio.Barrier(2)
    async with asyncio.timeout(30):
        await asyncio.gather(device("a"), device("b"))
    return time.perf_counter() - began


async def test_a_flood_of_connections_from_one_address_delays_nobody_else(
    nats_server: NatsServer, start: Callable[..., Service]
) -> None:
    env = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_TRUSTED_PROXIES": "127.0.0.1"}
    start("match-engine", env)
    edge = start("edge", env)
    before = [await matched(edge, number) for number in range(PAIRS)]
    async with flood(edge) as answers:
        began = time.monotonic()
        await eventually(lambda: answers[b"429"], what="a device that is refused")
        during = [await matched(edge, number) for number in range(PAIRS, 2 * PAIRS)]
        # what has closed at once never joined
        joined = answers[b"101"] - edge.metric("cloudmatch_edge_connections_abandoned_total")
        most = BURST + RATE * (time.monotonic() - began)
    assert answers.keys() == {b"101", b"429"}
    assert joined <= most + 1
    assert statistics.median(during) <= 2 * statistics.median(before) + NOISE
