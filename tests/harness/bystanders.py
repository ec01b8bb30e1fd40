"""Two devices that mind their own business while somebody else attacks their edge."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import cloudmatch
from harness.services import Service
from harness.waiting import eventually

PAUSE = 0.005  # s between two echoes


class Bystanders:
    """A pair whose second device returns what the first sends. Made by `bystanders`."""

    def __init__(self, first: cloudmatch.Device, second: cloudmatch.Device) -> None:
        self.echoes: list[float] = []  # s that each took
        self._first, self._second = first, second

    async def echo(self) -> None:
        """Exchange payloads until cancelled; each must return, once and in order."""
        while True:
            begun, word = time.monotonic(), f"echo {len(self.echoes)}"
            await self._first.send(word)
            assert await self._second.receive() == word
            await self._second.send(word)
            assert await self._first.receive() == word
            self.echoes.append(time.monotonic() - begun)
            await asyncio.sleep(PAUSE)

    def percentile(self, share: float) -> float:
        """Return a percentile of the echoes, in s."""
        return sorted(self.echoes)[int(share * (len(self.echoes) - 1))]


@contextlib.asynccontextmanager
async def bystanders(edge: Service) -> AsyncIterator[Bystanders]:
    """Run a pair that echoes beside the body; fail if it loses a payload, or its match."""
    lost: list[str] = []
    async with (
        cloudmatch.connect(edge.url, id="first", app="town", lat=1, lon=1) as first,
        cloudmatch.connect(edge.url, id="second", app="town", lat=1, lon=1) as second,
    ):
        await asyncio.gather(first.matched(), second.matched())
        for device in (first, second):
            for kind in (cloudmatch.PeerLeft, cloudmatch.PeerAway, cloudmatch.Disconnected):
                device.on(kind, lambda event: lost.append(repr(event)))
        pair = Bystanders(first, second)
        task = asyncio.create_task(pair.echo())
        await eventually(lambda: pair.echoes or task.done(), 20, "the first echo")
        pair.echoes.clear()
        yield pair
        done = len(pair.echoes)
        await eventually(lambda: len(pair.echoes) > done or task.done(), 20, "another echo")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not lost, lost
