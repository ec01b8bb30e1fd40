"""What happens to all devices of an edge at once costs a bounded number of requests, and nobody their match.

More devices, with figures: `make bench WHAT=crowd`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bench.crowd_devices import Crowd
from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text

Start = Callable[..., Service]
PATIENCE = 60  # s
REPEATED = "cloudmatch_edge_requests_repeated_total"


@pytest.fixture
def worker(nats_server: NatsServer, start: Start) -> Service:
    return start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url})


@pytest.fixture
def edge(nats_server: NatsServer, worker: Service, start: Start) -> Service:
    return start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url})


def port(edge: Service) -> int:
    return int(edge.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def crowd(edge: Service, count: int, *, classic: bool = False) -> AsyncIterator[Crowd]:
    devices = Crowd(port(edge), count, classic=classic)
    try:
        await devices.connect()
        yield devices
    finally:
        await devices.leave()


async def test_a_crowd_that_loses_its_sockets_at_once_returns_to_its_matches(
    edge: Service, worker: Service
) -> None:
    async with crowd(edge, 300) as devices:
        await devices.until_back(PATIENCE)
        assert devices.back == 300
        for each in devices.devices:
            each.reset()
        await devices.until_back(PATIENCE)
        assert devices.back == 300
        assert devices.lost == 0
        await eventually(lambda: not any(each.peer_away for each in devices.devices), 10, "peers are back")
        for each in devices.devices:
            each.send(each.name)
        await devices.until(lambda: all(each.received for each in devices.devices), PATIENCE)
        swapped = str.maketrans("ab", "ba")
        assert all(each.received == [each.name.translate(swapped)] for each in devices.devices)
        assert edge.metric(REPEATED) <= 2 * 300
        assert (edge.logs() + worker.logs()).count("\n") <= 100


async def test_devices_that_leave_while_no_worker_runs_are_asked_about_once_for_all(
    edge: Service, worker: Service
) -> None:
    began = time.monotonic()
    async with crowd(edge, 200, classic=True) as devices:
        await eventually(lambda: worker.metric("cloudmatch_match_engine_devices") == 200, PATIENCE)
        worker.terminate()
        await devices.leave()
        await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 0, PATIENCE)
        await eventually(lambda: edge.metric(REPEATED) > 5, PATIENCE, "it goes on asking")
        assert edge.metric(REPEATED) < 100 + 5 * (time.monotonic() - began)
        worker.start()
        await eventually(lambda: worker.metric("cloudmatch_match_engine_devices") == 0, PATIENCE)
        await eventually(lambda: edge.metric("cloudmatch_edge_requests_queued") == 0, PATIENCE)


async def test_two_clients_with_one_id_that_reconnect_at_once_are_slowed_down(edge: Service) -> None:
    url = edge.url.replace("http", "ws") + "/device/connect?id=twin&lat=1&lon=1"
    takeovers = 0

    async def fight() -> None:
        nonlocal takeovers
        while True:
            try:
                async with connect(url) as socket:
                    with contextlib.suppress(ConnectionClosed):
                        while True:
                            await socket.recv()
                    takeovers += 1
            except InvalidStatus as refused:
                assert refused.response.status_code == 429  # noqa: PT017 # the others were accepted
                await asyncio.sleep(0.02)

    async with device(edge, "bystander", 1, 2) as bystander:
        fighters = [asyncio.create_task(fight()) for _ in range(2)]
        matches = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                while True:
                    matches += "matched" in await receive_text(bystander)
        for each in fighters:
            each.cancel()
        assert 3 <= takeovers < 12
        assert 1 <= matches < 12
