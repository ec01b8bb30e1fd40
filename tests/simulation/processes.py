"""Edges and workers: the real relay and the real engine on a simulated bus."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.process.clock import monotonic, now_ms
from cloudmatch_edge.bus.hub import Hub
from cloudmatch_edge.dialects import parameters
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import CloseCode
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.handler import PairingHandler
from cloudmatch_match_engine.pairing.mirror import Mirror
from cloudmatch_match_engine.requests import Requests
from cloudmatch_match_engine.routing import BatchRouter
from cloudmatch_match_engine.sweeps import Sweeps
from cloudmatch_match_engine.worker import BusNotifier
from simulation.books import Books, Publisher
from simulation.bucket import TimedBucket
from simulation.network import Network, SimulatedBus

GRACE = 30.0  # s
MAX_PAYLOAD = 262_144  # bytes
TRANSIT = 0.002  # s that a frame takes between a device and its edge
MIRROR_DELAY = 0.002  # s at most

Frame = str | bytes


class WholeShare:
    """The share of a worker to which all devices fall, and which is never cut off."""

    isolated = False

    def owns(self, _: object) -> bool:
        return True


class Worker:
    """A worker of match-engine. All of them serve all partitions, and do all unasked work."""

    def __init__(self, network: Network, bucket: TimedBucket, books: Books) -> None:
        self.bus: Any = SimulatedBus(network)
        self._bucket: Any = bucket
        self._roster = Roster()
        notifier = BusNotifier(self.bus, books)  # type: ignore[arg-type]  # it publishes like the real one
        self._mirror = Mirror(self._roster, monotonic)
        self._handler = PairingHandler(self._bucket, self._mirror, notifier, clock=now_ms, reach=PLANAR_REACH)
        self._applied = 0  # entries of the bucket's log that are in the mirror, or on their way to it
        self._applied_at = 0.0

    async def start(self) -> None:
        """Read the bucket, then serve."""
        for entry in sorted(self._bucket.entries.values(), key=lambda entry: entry.revision):
            self._mirror.on_entry(entry)
        self._roster.complete()
        self._applied = len(self._bucket.log)
        self._bucket.on_commit.append(self._follow)
        self._mirror.schedule_replay()
        requests = Requests(self.bus, self._handler.answer)
        router = BatchRouter(self.bus, self._roster, self._handler)
        await self.bus.subscribe(subjects.all_of("up"), router.on_batch, subjects.QUEUE_GROUP)
        await self.bus.subscribe(subjects.every_match(), requests.on_request, subjects.QUEUE_GROUP)
        share: Any = WholeShare()
        sweeps = Sweeps(self.bus, self._mirror, self._handler, share)
        self.bus.spawn(sweeps.run())

    def _follow(self) -> None:
        """The watch shows new entries a little later, in order."""
        loop = asyncio.get_running_loop()
        for entry in self._bucket.log[self._applied :]:
            delay = self._bucket.chance.random() * MIRROR_DELAY
            self._applied_at = max(self._applied_at, loop.time() + delay)
            loop.call_at(self._applied_at, self._mirror.on_entry, entry)
        self._applied = len(self._bucket.log)

    def kill(self) -> None:
        """End as kill -9 would."""
        self.bus.die()
        self._bucket.on_commit.remove(self._follow)

    def on_loss(self) -> None:
        """Another worker was lost."""
        self._mirror.schedule_replay()


class Client(Protocol):
    """A device's side of a socket."""

    def on_frame(self, socket: "Socket", frame: Frame) -> None:
        """Receive a frame from the edge."""

    def on_close(self, socket: "Socket", code: int) -> None:
        """The connection has ended."""


class Edge:
    """An edge with its hub; when it dies another takes its name."""

    def __init__(self, network: Network, name: str, books: Books) -> None:
        self.name = name
        self._books = books
        self.sockets: dict[Socket, None] = {}
        self._network = network
        self.bus: Any = None
        self.hub: Hub

    @property
    def alive(self) -> bool:
        return self.bus is not None and self.bus.alive

    async def start(self) -> None:
        self.bus = SimulatedBus(self._network)
        facts: Any = Publisher(self._books, self.bus, self._network.chance)
        self.hub = Hub(self.bus, self.name, facts, patience=1e9, grace=GRACE)
        await self.hub.start()
        self.bus.spawn(self.hub.heartbeat.run())

    def kill(self) -> None:
        """End as kill -9 would."""
        self.bus.die()
        for socket in list(self.sockets):
            socket.drop()

    def accept(self, client: Client, name: str, query: dict[str, str]) -> "Socket":
        """Connect a device as the edge's listener does."""
        socket = Socket(self, client)
        who = parameters.parse(urlencode({"id": name, "app": "demo", **query}))
        token = who.resume or f"token-{name}"
        dialect = V1(Welcome(who.id, token[:8], token, GRACE, MAX_PAYLOAD))
        socket.write(dialect.connected())
        resume = who.resume is not None
        socket.device = self.hub.join(who, socket, dialect, token, resume=resume)
        return socket


class Socket:
    """A device's connection: ordered frames both ways, until it drops; then those in transit are lost."""

    reading = writable = True
    overfull = False

    def __init__(self, edge: Edge, client: Client) -> None:
        self.edge, self._client = edge, client
        self.open = True
        self.device: Device | None = None
        self._inbox: deque[SocketFrame] = deque()
        self._transit: deque[tuple[Any, Any]] = deque()
        edge.sockets[self] = None

    # -- the edge's side

    def write(self, frames: Sequence[SocketFrame]) -> None:
        for is_text, data in frames:
            self._later(self._client.on_frame, self, data.decode() if is_text else data)

    def close(self, code: CloseCode, _reason: str) -> None:
        self._later(self.drop, code.code)

    def host_took_all(self) -> bool:
        return not self._transit

    def resume_reading(self) -> None:
        while self._inbox and self.device is not None and min(self.device.credit) > 0:
            self.device.on_frames([self._inbox.popleft()])
        self.reading = not self._inbox

    # -- the client's side

    def send(self, frame: Frame) -> None:
        is_text = isinstance(frame, str)
        self._later(self._arrive, (is_text, frame.encode() if isinstance(frame, str) else frame))

    def _arrive(self, frame: SocketFrame) -> None:
        self._inbox.append(frame)
        self.resume_reading()

    # -- both

    def _later(self, do: Any, *args: Any) -> None:
        """Do something in order, but not at once; never, if the connection drops before."""
        if self.open:
            self._transit.append((do, args))
            asyncio.get_running_loop().call_later(TRANSIT, self._next)

    def _next(self) -> None:
        do, args = self._transit.popleft()
        if self.open:
            do(*args)

    def drop(self, code: int = 1006) -> None:
        """Break the connection."""
        if not self.open:
            return
        self.open = False
        del self.edge.sockets[self]
        if self.device is not None and self.edge.alive:
            self.edge.hub.leave(self.device, code)
        self._client.on_close(self, code)
