"""Devices that wait over a city, others that arrive beside them, and how long it takes them to be paired."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import cos, radians

from harness.edges import Device, FakeEdge

CITY = (52.30, 4.80)  # its south-west corner
METRES = 111_195.0  # of a degree of latitude
SPACING, REACH = 150.0, 50.0  # m; between those who wait, and how far they reach: not to each other
HOT_SPACING, HOT_REACH = 1.0, 0.4  # m; the same, all in one place
DEADLINE = 30.0  # s
FILLERS = 64  # devices that enter at a time, before it is measured

Place = tuple[float, float]


@dataclass
class Sample:
    """What came of a load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # s, from asking until both have heard
    late: list[float] = field(default_factory=list)  # s after its time that an arrival asked
    missed: int = 0  # arrivals whose neighbour was taken or gone: not paired with whom they should be

    @property
    def rate(self) -> float:
        """Pairings per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Give a percentile of the latencies, in ms."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def grid(count: int, spacing: float) -> list[Place]:
    """Spread devices over a square, so many metres apart."""
    side = int(count**0.5) + 1
    step = spacing / METRES
    wide = step / cos(radians(CITY[0]))
    places = ((CITY[0] + i * step, CITY[1] + j * wide) for i, j in itertools.product(range(side), repeat=2))
    return list(itertools.islice(places, count))


class Town:
    """Devices of one app that wait, out of reach of each other. Arrivals pair with one and leave again."""

    def __init__(self, edges: list[FakeEdge], app: str, *, hot: bool = False) -> None:
        self._edges = edges
        self._app = app
        self._spacing, self._reach = (HOT_SPACING, HOT_REACH) if hot else (SPACING, REACH)
        self._names = itertools.count()
        self._waiting: list[tuple[FakeEdge, Device]] = []
        self._chance = random.Random(7)  # noqa: S311  # a load, no secret

    async def fill(self, count: int) -> None:
        """Let so many wait."""
        places = iter(enumerate(grid(count, self._spacing)))
        await asyncio.gather(*(self._fill(places) for _ in range(FILLERS)))

    async def _fill(self, places: Iterator[tuple[int, Place]]) -> None:
        for number, (lat, lon) in places:
            edge = self._edges[number % len(self._edges)]
            device = await edge.connect(f"w{number}", lat, lon, self._app, radius=self._reach)
            assert device.match is None, "somebody is in reach already"
            self._waiting.append((edge, device))

    async def arrive(self, sample: Sample, due: float) -> None:
        """Let a device arrive beside one who waits. When both are paired it leaves, and the other waits."""
        if not self._waiting:
            sample.missed += 1
            return
        place = self._chance.randrange(len(self._waiting))
        self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
        there, resident = self._waiting.pop()
        edge = self._edges[self._chance.randrange(len(self._edges))]
        aside = self._chance.uniform(-0.5, 0.5) * self._reach / METRES
        at = resident.request
        began = time.monotonic()
        sample.late.append(began - due)
        visitor = edge.join(f"v{next(self._names)}", at.lat + aside, at.lon, self._app, radius=self._reach)
        await edge.seek(visitor)
        await resident.until(lambda d: d.peer is not None, DEADLINE)
        if (visitor.peer, resident.peer) != (resident.name, visitor.name):
            sample.missed += 1
            return
        sample.latencies.append(max(visitor.paired_at, resident.paired_at) - began)
        await edge.leave(visitor)
        await resident.until(lambda d: d.peer is None, DEADLINE)
        self._waiting.append((there, resident))

    async def open_loop(self, rate: float, seconds: float) -> Sample:
        """Let devices arrive at a rate, whatever becomes of those before."""
        sample = Sample()
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self.arrive(sample, due))
            sample.seconds = time.monotonic() - began
        return sample

    async def closed_loop(self, visitors: int, seconds: float) -> Sample:
        """Let so many come and go at a time, as fast as they can."""
        sample = Sample()
        began = time.monotonic()

        async def come_and_go() -> None:
            while time.monotonic() - began < seconds:
                await self.arrive(sample, time.monotonic())

        await asyncio.gather(*(come_and_go() for _ in range(visitors)))
        sample.seconds = time.monotonic() - began
        return sample


async def burst(edges: list[FakeEdge], app: str, count: int) -> Sample:
    """Let devices arrive in one place, all at once; each finds another."""
    sample = Sample()
    began = time.monotonic()
    devices = [
        (edge, edge.join(f"b{number}", *CITY, app, radius=REACH))
        for number, edge in zip(range(count), itertools.cycle(edges), strict=False)
    ]
    await asyncio.gather(*(edge.seek(device) for edge, device in devices))
    for _, device in devices:
        await device.until(lambda d: d.peer is not None, DEADLINE)
    by_name = {device.name: device for _, device in devices}
    for name, device in by_name.items():
        peer = by_name[device.peer or ""]
        assert peer.peer == name
        if name < peer.name:
            sample.latencies.append(max(device.paired_at, peer.paired_at) - began)
    sample.seconds = max(sample.latencies)
    return sample
