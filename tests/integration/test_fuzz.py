"""An edge under malformed frames keeps running, does not grow, and serves other devices."""

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
DEVICES, RAW_SOCKETS = 6, 4
WARM_UP = 0.25  # share of the frames before the first sample of memory
GROWTH = 24 * 1024  # KiB of resident memory after that, at most
CODES = {
    "bad_count",
    "bad_json",
    "bad_message",
    "unknown_type",
    "not_matched",
    "payload_too_large",
    "rate_limited",
}


class Pair:
    """Two well-behaved devices that exchange payloads all the time."""

    def __init__(self, url: str) -> None:
        self.devices = [
            cloudmatch.connect(url, id=name, app="well-behaved", lat=1, lon=1, timeout=20)
            for name in ("a", "b")
        ]
        self.received = [0, 0]
        self.longest = 0.0  # s from sending to receiving

    async def exchange(self, stop: asyncio.Event) -> None:
        """Exchange payloads until `stop`, then until all that were sent have been delivered."""
        a, b = self.devices
        async with a, b, asyncio.TaskGroup() as group:
            await a.matched()
            await b.matched()
            reading = [group.create_task(self._check(i, device)) for i, device in enumerate(self.devices)]
            sent = 0
            while not stop.is_set():
                await a.send(f"{sent} {time.monotonic()}")
                await b.send(f"{sent} {time.monotonic()}".encode())
                sent += 1
                await asyncio.sleep(0.01)
            await a.flush()
            await b.flush()
            assert self.received == [sent, sent]
            for task in reading:
                task.cancel()

    async def _check(self, i: int, device: cloudmatch.Device) -> None:
        async for data in device:
            number, at = (data if isinstance(data, str) else data.decode()).split()
            assert int(number) == self.received[i], "each once and in order"
            self.received[i] += 1
            self.longest = max(self.longest, time.monotonic() - float(at))


def memory(edge: Service) -> int:
    """Return the resident memory of the edge, KiB."""
    status = Path(f"/proc/{edge.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


async def test_malformed_frames_neither_stop_an_edge_nor_disturb_other_devices(
    nats_server: NatsServer, start: Callable[..., Service], pytestconfig: pytest.Config
) -> None:
    frames, seed = pytestconfig.getoption("--frames"), pytestconfig.getoption("--fuzz-seed")
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    # whoever sends that many bad messages would be closed with 1008 before long
    edge = start("edge", {**bus, "CLOUDMATCH_EDGE_GRACE": "1", "CLOUDMATCH_EDGE_CONTROL": "0"})
    pid, port = edge.process.pid, int(edge.url.rpartition(":")[2])
    pair, stop = Pair(edge.url), asyncio.Event()
    exchanging = asyncio.create_task(pair.exchange(stop))
    began = time.monotonic()

    fuzz = Fuzz(port, seed, frames)
    running = asyncio.create_task(fuzz.run(DEVICES, RAW_SOCKETS))
    sizes = []
    while not running.done():
        await asyncio.wait(
            {running, exchanging}, timeout=frames / 50_000, return_when=asyncio.FIRST_COMPLETED
        )
        assert not exchanging.done(), exchanging.exception()
        if fuzz.sent >= frames * WARM_UP:
            sizes.append(await asyncio.to_thread(memory, edge))
    await running
    stop.set()
    await exchanging
    seconds = time.monotonic() - began

    print(f"seed {seed}: {fuzz.sent} frames in {seconds:.0f} s by {dict(fuzz.connections)};")  # noqa: T201  # shown with a failure
    print(f"errors: {dict(fuzz.codes)}; closed unexpectedly: {len(fuzz.unexpected_closes)};")  # noqa: T201  # the same
    print(f"well-behaved devices: {pair.received} payloads, at most {pair.longest:.2f} s;")  # noqa: T201  # the same
    print(f"memory, KiB: {sizes[0]} after warm-up, {max(sizes)} at most, {sizes[-1]} at the end")  # noqa: T201  # the same
    assert edge.process.pid == pid
    assert edge.process.returncode is None
    assert edge.get("/system/readiness")[0] == 200
    assert fuzz.unexpected_closes == []
    assert set(fuzz.codes) == CODES, "the frames provoked every error code"
    assert max(sizes) - sizes[0] < GROWTH
    assert min(pair.received) > 50
