"""One device of a pair, in either dialect: sends numbered payloads and checks those of its peer."""

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import cloudmatch
from faults.checker import Direction
from faults.client import GREETING, Client, connect, peer_of

BINARY = 3  # one of so many payloads of a cloudmatch.v1 device is binary
RECEIPT = 60  # one of so many is sent with a receipt, for which the device waits
PAUSE = 0.01, 0.03  # probability with which a device stops reading after a payload, and for how long (s)


class Device(ABC):
    """A device of a pair."""

    def __init__(self, name: str, peer: str, outgoing: Direction, incoming: Direction) -> None:
        self.name = name
        self.peer = peer
        self.outgoing = outgoing
        self.incoming = incoming
        self.matches: list[str] = []  # peers, in order
        self.unexpected: list[str] = []  # what should not have happened
        self.matched = asyncio.Event()

    @property
    @abstractmethod
    def open(self) -> bool:
        """Whether payloads can still be sent."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Payloads sent whose delivery is not confirmed; 0 if the dialect confirms none."""

    @abstractmethod
    async def connect(self, url: str, lat: float, lon: float) -> None:
        """Connect to the server at this URL."""

    @abstractmethod
    async def send(self, make: Callable[[], str], count: int) -> None:
        """Send `count` payloads, as soon as there is room for them."""

    @abstractmethod
    def problems(self) -> list[str]:
        """Describe what should not have happened to the device."""

    @abstractmethod
    async def close(self) -> None:
        """Leave."""

    def _on_match(self, peer: str) -> None:
        self.matches.append(peer)
        self.matched.set()

    def _problems(self) -> list[str]:
        out = [f"{self.name}: {what}" for what in self.unexpected]
        if self.matches != [self.peer]:
            out.append(f"{self.name} was matched with {self.matches}, not only with {self.peer}")
        return out


class ClassicDevice(Device):
    """A device of 2019."""

    client: Client
    pending = 0

    @property
    def open(self) -> bool:
        return self.client.open

    async def connect(self, url: str, lat: float, lon: float) -> None:
        self._prefix = f"device {self.peer} says: "
        self.client = await connect(url, self._on_text, id=self.name, lat=lat, lon=lon)

    def _on_text(self, text: str) -> None:
        if text.startswith(self._prefix):
            self.incoming.on_payload(text[len(self._prefix) :], time.monotonic_ns())
        elif peer := peer_of(text):
            self._on_match(peer)
        elif not text.startswith(GREETING):
            self.unexpected.append(f"received {text[:200]!r}")

    async def send(self, make: Callable[[], str], count: int) -> None:
        await self.client.writable.wait()
        self.client.send(*(make() for _ in range(count)))

    def problems(self) -> list[str]:
        out = self._problems()
        if self.client.closed.done():
            out.append(f"{self.name} was disconnected with code {self.client.closed.result()}")
        return out

    async def close(self) -> None:
        await self.client.close()


class V1Device(Device):
    """A device of the Python client, whose match outlives its connections."""

    client: cloudmatch.Device

    def __init__(self, name: str, peer: str, outgoing: Direction, incoming: Direction) -> None:
        super().__init__(name, peer, outgoing, incoming)
        self.resumed = 0  # times it resumed its session
        self._events: deque[str] = deque(maxlen=16)  # the last ones
        self._running = contextlib.AsyncExitStack()
        self._receiving: asyncio.Task[None] | None = None
        self._leaving = False

    @property
    def open(self) -> bool:
        return self.client.state is not cloudmatch.State.CLOSED and not self.unexpected

    @property
    def pending(self) -> int:
        return self.client.pending

    async def connect(self, url: str, lat: float, lon: float) -> None:
        self.client = cloudmatch.connect(url, id=self.name, lat=lat, lon=lon, timeout=20, linger=0.1)
        self.client.on(cloudmatch.Event, self._on_event)
        await self._running.enter_async_context(self.client)
        self._receiving = asyncio.create_task(self._receive())

    def _on_event(self, event: cloudmatch.Event) -> None:
        self._events.append(f"{time.monotonic():.2f} {event!r:.60}")
        match event:
            case cloudmatch.Matched(peer):
                self._on_match(peer.id)
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
                self.unexpected.append(f"event {event!r:.300}")

    async def _receive(self) -> None:
        try:
            async for data in self.client:
                binary = isinstance(data, bytes)
                text = data.decode(errors="replace") if isinstance(data, bytes) else data
                number = self.incoming.received
                if binary != self._is_binary(number):
                    self.unexpected.append(f"payload {number} changed its kind, or is another")
                self.incoming.on_payload(text, time.monotonic_ns())
                probability, seconds = PAUSE
                if random.random() < probability:  # noqa: S311  # no secret
                    await asyncio.sleep(seconds)
        except cloudmatch.CloudMatchError as error:
            self.unexpected.append(f"cannot receive: {error!r}")

    @staticmethod
    def _is_binary(number: int) -> bool:
        return number % BINARY == 0

    async def send(self, make: Callable[[], str], count: int) -> None:
        try:
            for _ in range(count):
                number = self.outgoing.sent
                text = make()
                data = text.encode() if self._is_binary(number) else text
                await self.client.send(data, receipt=number % RECEIPT == RECEIPT - 1)
        except cloudmatch.CloudMatchError as error:
            self.unexpected.append(f"cannot send payload {number}: {error!r}")

    def problems(self) -> list[str]:
        out = self._problems()
        if self.pending:
            out.append(f"{self.name} has no confirmation of {self.pending} payloads")
        return [*out, f"last events of {self.name}: {'; '.join(self._events)}"] if out else []

    async def close(self) -> None:
        self._leaving = True
        await self._running.aclose()
        if self._receiving is not None:
            self._receiving.cancel()
