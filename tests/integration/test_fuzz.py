"""An edge that receives malformed frames keeps running, stays small, and serves other devices."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cloudmatch
from fuzz.sockets import Fuzz
from harness import NatsServer, Service

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]
DEVICES, STRANGERS = 6, 4
WARM = 0.25  # of the frames, before memory is looked at first
GROWTH = 24 * 1024  # KiB
CODES = {"bad_json", "bad_message", "unknown_type", "not_matched", "payload_too_large", "rate_limited"}


class Pair:
    """Two devices that talk all the while."""

    def __init__(self, url: str) -> None:
        self.devices = [
            cloudmatch.connect(url, id=name, app="good", lat=1, lon=1, timeout=20) for name in ("a", "b")
        ]
        self.received = [0, 0]
        self.longest = 0.0  # s from saying to hearing

    async def talk(self, stop: asyncio.Event) -> None:
        """Exchange payloads until `stop`; then wait for all that were sent."""
        a, b = self.devices
        async with a, b, asyncio.TaskGroup() as group:
            await a.matched()
            await b.matched()
            hearing = [group.create_task(self._hear(i, device)) for i, device in enumerate(self.devices)]
            sent = 0
            while not stop.is_set():
                await a.send(f"{sent} {time.monotonic()}")
                await b.send(f"{sent} {time.monotonic()}".encode())
                sent += 1
                await asyncio.sleep(0.01)
            await a.flush()
            await b.flush()
            assert self.received == [sent, sent]
            for task in hearing:
                task.cancel()

    async def _hear(self, i: int, device: cloudmatch.Device) -> None:
        async for data in device:
            number, at = (data if isinstance(data, str) else data.decode()).split()
            assert int(number) == self.received[i], "each once and in order"
            self.received[i] += 1
            self.longest = max(self.longest, time.monotonic() - float(at))


def memory(edge: Service) -> int:
    """Give the KiB that the edge's process has in memory."""
    status = Path(f"/proc/{edge.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


async def test_an_edge_outlives_nonsense_and_good_devices_notice_nothing(
    nats_server: NatsServer, start: Callable[..., Service], pytestconfig: pytest.Config
) -> None:
    frames, seed = pytestconfig.getoption("--frames"), pytestconfig.getoption("--fuzz-seed")
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    edge = start("edge", {**bus, "CLOUDMATCH_EDGE_GRACE": "1"})
    pid, port = edge.process.pid, int(edge.url.rpartition(":")[2])
    pair, stop = Pair(edge.url), asyncio.Event()
    talking = asyncio.create_task(pair.talk(stop))
    began = time.monotonic()

    fuzz = Fuzz(port, seed, frames)
    running = asyncio.create_task(fuzz.run(DEVICES, STRANGERS))
    sizes = []
    while not running.done():
        await asyncio.wait({running, talking}, timeout=frames / 50_000, return_when=asyncio.FIRST_COMPLETED)
        assert not talking.done(), talking.exception()
        if fuzz.sent >= frames * WARM:
            sizes.append(await asyncio.to_thread(memory, edge))
    await running
    stop.set()
    await talking
    seconds = time.monotonic() - began

    print(f"seed {seed}: {fuzz.sent} frames in {seconds:.0f} s by {dict(fuzz.connections)};")  # noqa: T201  # shown with a failure
    print(f"errors: {dict(fuzz.codes)}; closed unasked: {len(fuzz.unasked)};")  # noqa: T201  # the same
    print(f"good devices: {pair.received} payloads, at most {pair.longest:.2f} s;")  # noqa: T201  # the same
    print(f"memory, KiB: {sizes[0]} when warm, {max(sizes)} at most, {sizes[-1]} at the end")  # noqa: T201  # the same
    assert edge.process.pid == pid
    assert edge.process.returncode is None
    assert edge.get("/system/readiness")[0] == 200
    assert fuzz.unasked == []
    assert set(fuzz.codes) == CODES, "it came to every answer that there is"
    assert max(sizes) - sizes[0] < GROWTH
    assert min(pair.received) > 50
