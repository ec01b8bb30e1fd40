"""A load on the pool: devices wait all over a city, others arrive beside them and are matched."""

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
SPACING, REACH = 150.0, 50.0  # m: between waiting devices; their radius, too small to match each other
HOT_SPACING, HOT_REACH = 1.0, 0.4  # m: the same, for a crowd in one place
DEADLINE = 30.0  # s
FILLERS = 64  # devices that connect concurrently before the measurement

Location = tuple[float, float]  # latitude, longitude


@dataclass
class Sample:
    """The result of a load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # s, from the request until both are notified
    late: list[float] = field(default_factory=list)  # s by which each arrival was late
    missed: int = 0  # arrivals that were not matched with their neighbour

    @property
    def rate(self) -> float:
        """Matches per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return a percentile of the latencies, in ms."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def grid(count: int, spacing: float) -> list[Location]:
    """Spread `count` locations over a square, `spacing` metres apart."""
    side = int(count**0.5) + 1
    step = spacing / METRES
    wide = step / cos(radians(CITY[0]))
    locations = (
        (CITY[0] + i * step, CITY[1] + j * wide) for i, j in itertools.product(range(side), repeat=2)
    )
    return list(itertools.islice(locations, count))


class Town:
    """Waiting devices of one app, out of reach of each other. Each visitor matches with one and leaves."""

    def __init__(self, edges: list[FakeEdge], app: str, *, hot: bool = False) -> None:
        self._edges = edges
        self._app = app
        self._spacing, self._reach = (HOT_SPACING, HOT_REACH) if hot else (SPACING, REACH)
        self._names = itertools.count()
        self._waiting: list[tuple[FakeEdge, Device]] = []
        self._random = random.Random(7)  # noqa: S311  # a load, not a secret

    async def fill(self, count: int) -> None:
        """Connect `count` devices that wait."""
        locations = iter(enumerate(grid(count, self._spacing)))
        await asyncio.gather(*(self._fill(locations) for _ in range(FILLERS)))

    async def _fill(self, locations: Iterator[tuple[int, Location]]) -> None:
        for number, (lat, lon) in locations:
            edge = self._edges[number % len(self._edges)]
            device = await edge.connect(f"w{number}", lat, lon, self._app, radius=self._reach)
            assert device.match is None, "another device is in reach already"
            self._waiting.append((edge, device))

    async def arrive(self, sample: Sample, due: float) -> None:
        """Connect a visitor beside a waiting device; once matched it leaves, and the resident waits again."""
        if not self._waiting:
            sample.missed += 1
            return
        index = self._random.randrange(len(self._waiting))
        self._waiting[index], self._waiting[-1] = self._waiting[-1], self._waiting[index]
        home, resident = self._waiting.pop()
        edge = self._edges[self._random.randrange(len(self._edges))]
        aside = self._random.uniform(-0.5, 0.5) * self._reach / METRES
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
        self._waiting.append((home, resident))

    async def open_loop(self, rate: float, seconds: float) -> Sample:
        """Let visitors arrive at a rate, whether or not earlier ones have finished."""
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
        """Let `visitors` come and go concurrently, as fast as possible."""
        sample = Sample()
        began = time.monotonic()

        async def come_and_go() -> None:
            while time.monotonic() - began < seconds:
                await self.arrive(sample, time.monotonic())

        await asyncio.gather(*(come_and_go() for _ in range(visitors)))
        sample.seconds = time.monotonic() - began
        return sample


async def burst(edges: list[FakeEdge], app: str, count: int) -> Sample:
    """Connect `count` devices in one place at once; return when all are matched."""
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
