"""One device of a pair, in either dialect: it says numbered payloads and judges those of its peer."""

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import cloudmatch
from faults.client import GREETING, Client, connect, peer_of
from faults.tally import Direction

BINARY = 3  # of so many payloads of a cloudmatch.v1 device one is binary
RECEIPT = 60  # of so many one is sent with a receipt, and the device waits for that
DAWDLE = 0.01, 0.03  # how often a device takes nothing for some time, and s


class Talker(ABC):
    """A device of a pair."""

    def __init__(self, name: str, peer: str, says: Direction, hears: Direction) -> None:
        self.name = name
        self.peer = peer
        self.says = says
        self.hears = hears
        self.matches: list[str] = []  # peers, in order
        self.stray: list[str] = []  # what should not have happened
        self.matched = asyncio.Event()

    @property
    @abstractmethod
    def open(self) -> bool:
        """Whether payloads can still be sent."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Payloads that are sent and not known to have arrived, as far as the dialect tells."""

    @abstractmethod
    async def connect(self, url: str, lat: float, lon: float) -> None:
        """Connect to the server at this URL."""

    @abstractmethod
    async def say(self, make: Callable[[], str], count: int) -> None:
        """Say as many payloads, as soon as there is room for them."""

    @abstractmethod
    def changes(self) -> list[str]:
        """Say what happened to the device that should not have."""

    @abstractmethod
    async def close(self) -> None:
        """Leave."""

    def _met(self, peer: str) -> None:
        self.matches.append(peer)
        self.matched.set()

    def _astray(self) -> list[str]:
        out = [f"{self.name}: {what}" for what in self.stray]
        if self.matches != [self.peer]:
            out.append(f"{self.name} was matched with {self.matches}, not only with {self.peer}")
        return out


class Classic(Talker):
    """A device of 2019."""

    client: Client
    pending = 0

    @property
    def open(self) -> bool:
        return self.client.open

    async def connect(self, url: str, lat: float, lon: float) -> None:
        self._prefix = f"device {self.peer} says: "
        self.client = await connect(url, self._hear, id=self.name, lat=lat, lon=lon)

    def _hear(self, text: str) -> None:
        if text.startswith(self._prefix):
            self.hears.hear(text[len(self._prefix) :], time.monotonic_ns())
        elif peer := peer_of(text):
            self._met(peer)
        elif not text.startswith(GREETING):
            self.stray.append(f"heard {text[:200]!r}")

    async def say(self, make: Callable[[], str], count: int) -> None:
        await self.client.writable.wait()
        self.client.send(*(make() for _ in range(count)))

    def changes(self) -> list[str]:
        out = self._astray()
        if self.client.closed.done():
            out.append(f"{self.name} was disconnected with code {self.client.closed.result()}")
        return out

    async def close(self) -> None:
        await self.client.close()


class V1(Talker):
    """A device of the Python SDK, whose match outlives its connections."""

    device: cloudmatch.Device

    def __init__(self, name: str, peer: str, says: Direction, hears: Direction) -> None:
        super().__init__(name, peer, says, hears)
        self.resumed = 0  # times it came back
        self._story: deque[str] = deque(maxlen=16)  # what it was told last
        self._running = contextlib.AsyncExitStack()
        self._hearing: asyncio.Task[None] | None = None
        self._leaving = False

    @property
    def open(self) -> bool:
        return self.device.state is not cloudmatch.State.CLOSED and not self.stray

    @property
    def pending(self) -> int:
        return self.device.pending

    async def connect(self, url: str, lat: float, lon: float) -> None:
        self.device = cloudmatch.connect(url, id=self.name, lat=lat, lon=lon, timeout=20, linger=0.1)
        self.device.on(cloudmatch.Event, self._told)
        await self._running.enter_async_context(self.device)
        self._hearing = asyncio.create_task(self._hear())

    def _told(self, event: cloudmatch.Event) -> None:
        self._story.append(f"{time.monotonic():.2f} {event!r:.60}")
        match event:
            case cloudmatch.Matched(peer):
                self._met(peer.id)
            case cloudmatch.Resumed():
                self.resumed += 1
            case (
                cloudmatch.Waiting()
                | cloudmatch.PeerAway()
                | cloudmatch.PeerBack()
                | cloudmatch.Disconnected()
            ):
                pass
            case _ if not self._leaving:
                self.stray.append(f"was told {event!r:.300}")

    async def _hear(self) -> None:
        try:
            async for data in self.device:
                binary = isinstance(data, bytes)
                text = data.decode(errors="replace") if isinstance(data, bytes) else data
                if binary != self._binary(self.hears.heard):
                    self.stray.append(f"payload {self.hears.heard} changed its kind, or is another")
                self.hears.hear(text, time.monotonic_ns())
                often, long = DAWDLE
                if random.random() < often:  # noqa: S311  # no secret
                    await asyncio.sleep(long)
        except cloudmatch.CloudMatchError as error:
            self.stray.append(f"could not hear: {error!r}")

    @staticmethod
    def _binary(number: int) -> bool:
        return number % BINARY == 0

    async def say(self, make: Callable[[], str], count: int) -> None:
        try:
            for _ in range(count):
                number = self.says.sent
                text = make()
                data = text.encode() if self._binary(number) else text
                await self.device.send(data, receipt=number % RECEIPT == RECEIPT - 1)
        except cloudmatch.CloudMatchError as error:
            self.stray.append(f"could not say payload {number}: {error!r}")

    def changes(self) -> list[str]:
        out = self._astray()
        if self.pending:
            out.append(f"{self.name} does not know of {self.pending} payloads that they have arrived")
        return [*out, f"{self.name} was told at last: {'; '.join(self._story)}"] if out else []

    async def close(self) -> None:
        self._leaving = True
        await self._running.aclose()
        if self._hearing is not None:
            self._hearing.cancel()
