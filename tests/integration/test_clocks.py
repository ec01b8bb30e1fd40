"""Workers and edges whose wall clocks are wrong, each in its own way, and stepped while they run."""

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest

from cloudmatch_bus.contract.messages import DevicePaired, DeviceUnpaired, PeerAway
from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text
from harness.clocks import DAY, MINUTE, SteppedClock
from harness.edges import fake_edge

pytestmark = pytest.mark.servers

PAIRS = 16
GRACE = 2.0  # s
MakeClock = Callable[[float], SteppedClock]


async def test_graces_end_neither_early_nor_late_whatever_the_clocks_of_workers_show(
    nats_server: NatsServer, start: Callable[..., Service], stepped_clock: MakeClock
) -> None:
    clocks = [stepped_clock(-10 * MINUTE), stepped_clock(2 * DAY)]
    for clock in clocks:
        start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url, **clock.settings})
    steps = itertools.cycle((-2.0, 45.0, 10 * MINUTE, -2 * DAY))
    async with fake_edge(nats_server.url, "one") as one, fake_edge(nats_server.url, "two") as two:

        async def pair(number: int) -> None:
            session = {"app": f"app-{number}", "grace": GRACE, "token": "t"}
            a = await one.connect("a", **session)
            b = await two.connect("b", **session)
            await a.until(lambda d: d.match is not None)
            await one.drop(a)
            await b.until(lambda d: any(isinstance(answer, PeerAway) for answer in d.history))
            await asyncio.sleep(GRACE / 4)
            again = await two.connect("a", **session, resume=True)
            paired = again.history[-1]
            assert isinstance(paired, DevicePaired), f"lost within its grace: {again.history}"
            assert paired.match == a.match
            await two.drop(again)
            dropped = time.monotonic()
            await b.until(lambda d: any(isinstance(answer, DeviceUnpaired) for answer in d.history))
            assert time.monotonic() - dropped >= GRACE - 0.1, "its grace has ended early"

        async def step() -> None:
            while True:
                await asyncio.sleep(GRACE / 10)
                for clock in clocks:
                    clock.step(next(steps))

        stepping = asyncio.create_task(step())
        await asyncio.gather(*(pair(number) for number in range(PAIRS)))
        stepping.cancel()


async def test_an_edge_that_starts_again_with_its_clock_set_back_keeps_its_devices(
    nats_server: NatsServer, start: Callable[..., Service], stepped_clock: MakeClock
) -> None:
    clock = stepped_clock(2 * DAY)
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    edge = start("edge", {**bus, **clock.settings})
    async with device(edge, "a", 0, 0):
        await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 1, 5, "a")
    await asyncio.to_thread(edge.kill)
    clock.step(-10 * MINUTE)
    await asyncio.to_thread(edge.start)
    async with device(edge, "a", 0, 0) as a, device(edge, "b", 0, 0) as b:
        await eventually(lambda: "incarnation is now above" in edge.process.log, 15, "it knows")

        async def talk() -> None:
            while True:
                await a.send("ciao")
                await asyncio.sleep(0.2)

        talking = asyncio.create_task(talk())
        while await receive_text(b) != "device a says: ciao":
            pass
        talking.cancel()
        assert (a.close_code, b.close_code) == (None, None)
