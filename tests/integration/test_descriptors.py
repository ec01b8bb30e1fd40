"""File descriptors: an edge that runs short of them, and the limit that every service raises."""

import asyncio
import contextlib
import json
import re
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers
Start = Callable[..., Service]
LIMIT = 120


@pytest.fixture
def edge(nats_server: NatsServer, start: Start) -> Service:
    """An edge that may have 120 files open, and a worker."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    edge = start("edge", bus)
    resource.prlimit(edge.process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    return edge


def opened(edge: Service) -> int:
    return len(list(Path(f"/proc/{edge.process.pid}/fd").iterdir()))


async def test_an_edge_that_runs_short_refuses_devices_and_goes_on(
    edge: Service, nats_server: NatsServer
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(device(edge, "a", 1, 1))
        c = await stack.enter_async_context(device(edge, "c", 1, 2))
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"
        refused = None
        for number in range(LIMIT):
            url = edge.url.replace("http", "ws") + f"/device/connect?id=d{number}&lat=9&lon=9"
            try:
                await stack.enter_async_context(connect(url))
            except InvalidStatus as error:
                refused = error.response
                break
        assert refused is not None
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        error = json.loads(refused.body)["error"]
        assert error["code"] == "edge_full"
        assert re.fullmatch(
            r"9\d of 120 file descriptors are in use; try again later, or another edge", error["detail"]
        )
        assert edge.get("/system/liveness") == (200, "alive")
        status, text = edge.get("/system/readiness")
        assert (status, list(json.loads(text)["reasons"])) == (503, ["descriptors"])
        assert edge.metric("cloudmatch_edge_devices_refused_total") == 1
        # What is kept is enough for the bus, even while silent connections take all that they can get.
        silent = [await _silent(edge) for _ in range(2 * LIMIT)]
        await asyncio.to_thread(nats_server.restart)
        await _relays(a, c)
        await eventually(lambda: edge.metric("cloudmatch_edge_connections_refused_total") > 0)
        for each in silent:
            each.close()
    await eventually(lambda: edge.get("/system/readiness")[0] == 200, what="free descriptors")
    async with device(edge, "b", 1, 1):
        assert edge.process.log.count("file descriptors are in use: devices are refused") == 1
        assert edge.process.log.count("file descriptors are free again") == 1


async def _silent(edge: Service) -> socket.socket:
    """Connect, and say nothing."""
    parts = urlsplit(edge.url)
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
    return sock


async def _relays(sender: ClientConnection, receiver: ClientConnection) -> None:
    """Send until a payload arrives: the bus is there again, perhaps with a new match."""
    async with asyncio.timeout(20):
        while True:
            await sender.send("ciao")
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(receiver.recv(), 1) == "device a says: ciao":
                    return


async def test_silent_connections_are_closed_within_seconds(edge: Service) -> None:
    before = opened(edge)
    silent = [await _silent(edge) for _ in range(10)]
    slow = await _silent(edge)
    slow.send(b"GET /system/liveness HTTP/1.1\r\nHost: ")
    answered = await _silent(edge)
    answered.send(b"GET /system/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: opened(edge) > before, what="open connections")
    await eventually(lambda: opened(edge) == before, 10, what="closed connections")
    for each in (*silent, slow, answered):
        each.close()


@pytest.mark.parametrize("name", ["edge", "match-engine", "journal"])
def test_a_service_may_open_as_many_files_as_the_system_allows(
    nats_server: NatsServer, start: Start, name: str
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        running = start(name, {"CLOUDMATCH_NATS_URL": nats_server.url}, ready=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
