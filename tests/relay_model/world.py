"""Edges, devices, and what happens to them."""

import asyncio
import json
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from cloudmatch_bus.contract.messages import PayloadsDelivered
from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.bus.hub import Relay
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from relay_model.bus import Bus, Network

IN_FLIGHT = 128
GRACE = 30.0


class Facts:
    """What an edge has told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def publish(self, fact: Any) -> bool:
        if isinstance(fact, PayloadsDelivered):
            self.sizes += fact.sizes
        return True


class Edge:
    """An edge, with a relay of its own."""

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self.facts = Facts()
        self.lives: list[Facts] = []
        self.sockets: set[Socket] = set()
        self._network = network

    async def start(self) -> None:
        self.bus = Bus(self._network, self.name)
        self.facts = Facts()
        self.lives.append(self.facts)
        self.relay = Relay(self.bus, self.name, self.facts, patience=1e9, grace=GRACE)  # type: ignore[arg-type]  # they do as the real ones
        await self.relay.start()

    def kill(self) -> None:
        self.bus.die()
        for socket in list(self.sockets):
            socket.drop()


class Socket:
    """A device's connection: TCP both ways, until it drops; then what is on its way is lost."""

    reading = True

    def __init__(self, edge: Edge, client: "Client") -> None:
        self.edge, self.client = edge, client
        self.open = True
        self.device: Device | None = None
        self._inbox: deque[Payload] = deque()
        self._way: deque[tuple[Any, Any]] = deque()  # what is between the two
        edge.sockets.add(self)

    # -- the edge's side

    def send(self, frames: Sequence[Payload]) -> None:
        for frame in frames:
            if self.open:
                self._later(self.client.hear, self, frame)

    def end(self, code: int, _reason: str) -> None:
        if self.open:
            self._later(self._closed, code)

    def _closed(self, code: int) -> None:
        self.drop(code)

    def go_on(self) -> None:
        while self._inbox and self.device is not None and min(self.device.room) > 0:
            self.device.take([self._inbox.popleft()])
        self.reading = not self._inbox

    # -- the client's side

    def say(self, message: dict[str, Any] | bytes) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._later(self._arrive, (not isinstance(message, bytes), data))

    def _arrive(self, frame: Payload) -> None:
        if self.device is not None:
            self._inbox.append(frame)
            self.go_on()

    def _later(self, do: Any, *args: Any) -> None:
        """In order, but not at once; never, if it drops before."""

        self._way.append((do, args))
        asyncio.get_running_loop().call_later(0.002, self._next)

    def _next(self) -> None:
        do, args = self._way.popleft()
        if self.open:
            do(*args)

    def drop(self, code: int = 1006) -> None:
        if not self.open:
            return
        self.open = False
        self.edge.sockets.discard(self)
        if self.device is not None and self.edge.bus.alive:
            self.edge.relay.leave(self.device, code)
        self.client.dropped(self, code)


class Client:
    """A device as the SDKs are: numbers, acknowledges, resumes, keeps what is not delivered."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.socket: Socket | None = None
        self.token = ""
        self.match: int | None = None
        self.ready = False
        self.sent: list[str] = []  # in all
        self.delivered = 0
        self.unsent: deque[str] = deque()
        self.kept: deque[str] = deque()
        self.heard: list[str] = []
        self.receipts: list[str] = []
        self.events: list[str] = []
        self._ack_due = False

    def connect(self) -> None:
        living = [edge for edge in self.world.edges if edge.bus.alive]
        edge = self.world.chance.choice(living)
        socket = self.socket = Socket(edge, self)
        resume = bool(self.token)
        token = self.token or f"token-{self.name}"
        who = Parameters(self.name, 0, 0, "app", resume=self.token or None, received=len(self.heard))
        dialect = V1(Welcome(self.name, "s", token, GRACE, 65536))
        socket.send(dialect.connected())
        socket.device = edge.relay.join(who, socket, dialect, token, resume=resume)
        self.ready = False

    def dropped(self, socket: Socket, code: int) -> None:
        if socket is not self.socket:
            return
        assert code == 1006, f"{self.name} was closed with {code}"
        self.socket, self.ready = None, False
        asyncio.get_running_loop().call_later(self.world.chance.random() * 1.0, self._again)

    def _again(self) -> None:
        if self.socket is None:
            self.connect()

    def send(self) -> None:
        text = f"{self.name}{len(self.sent)}" + "x" * self.world.chance.randrange(20)
        self.sent.append(text)
        self.unsent.append(text)
        self._push()

    def _push(self) -> None:
        while self.ready and self.socket and self.unsent and len(self.kept) < IN_FLIGHT:
            text = self.unsent.popleft()
            self.kept.append(text)
            self._say(text)

    def _say(self, text: str) -> None:
        assert self.socket is not None
        if len(text) % 3 == 0:
            self.socket.say(text.encode())
        else:
            self.socket.say({"type": "message", "text": text, "ref": text})

    def hear(self, socket: Socket, frame: Payload) -> None:
        if socket is not self.socket:
            return
        is_text, data = frame
        if not is_text:
            self._took(data.decode())
            return
        message = json.loads(data)
        match message["type"]:
            case "welcome":
                self.token = message["resume"]
            case "matched":
                assert self.match is None, "matched again"
                self.match, self.ready = message["match"], True
                self._ack()
                self._push()
            case "resumed":
                assert message["match"] == self.match or self.match is None
                self.match = message["match"]
                self._forget(message["received"])
                self.ready = True
                self._ack()
                for text in self.kept:
                    self._say(text)
                self._push()
            case "message":
                assert message["n"] == len(self.heard) + 1, (message, len(self.heard))
                self._took(message["text"])
            case "ack":
                self._forget(message["delivered"])
                self._push()
            case "receipt":
                self.receipts.append(message["ref"])
            case "peer_away" | "peer_back" | "waiting":
                self.events.append(message["type"])
            case _:
                raise AssertionError(message)

    def _forget(self, delivered: int) -> None:
        assert delivered >= self.delivered, "the peer's hands lost something"
        while self.delivered < delivered:
            self.kept.popleft()
            self.delivered += 1

    def _took(self, text: str) -> None:
        self.heard.append(text)
        if not self._ack_due:
            self._ack_due = True
            asyncio.get_running_loop().call_later(self.world.chance.random() * 0.03, self._ack)

    def _ack(self) -> None:
        self._ack_due = False
        if self.socket is not None and self.match is not None:
            self.socket.say({"type": "ack", "received": len(self.heard), "match": self.match})


class World:
    """All of it."""

    def __init__(self, seed: int, devices: str = "abcd") -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self.network = Network(self.chance)
        self.edges = [Edge(self.network, f"e{i}") for i in range(3)]
        self.clients = {name: Client(self, name) for name in devices}
        self.killed = 0

    async def run(self, *, kills: bool, steps: int = 60) -> None:
        """Let things happen, then let everything come to rest. Without kills match-engine is always heard
        at once: sizes may miss a few where a device drops twice before it knows of the first."""
        failed = asyncio.get_running_loop().create_future()

        def fail(_: object, context: dict[str, Any]) -> None:
            if not failed.done():
                failed.set_exception(context.get("exception") or AssertionError(context["message"]))

        asyncio.get_running_loop().set_exception_handler(fail)
        self.network.forgets = kills
        things = asyncio.ensure_future(self._happen(kills=kills, steps=steps))
        await asyncio.wait({failed, things}, return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        await (failed if failed.done() and not failed.cancelled() else things)

    async def _happen(self, *, kills: bool, steps: int) -> None:
        for edge in self.edges:
            await edge.start()
        for client in self.clients.values():
            client.connect()
        for _ in range(steps):
            await asyncio.sleep(self.chance.random() * 0.2)
            await self._something(kills=kills)
        self.network.trouble = False
        for edge in self.edges:
            if not edge.bus.alive:
                await edge.start()
        await asyncio.sleep(60)

    async def _something(self, *, kills: bool) -> None:
        client = self.chance.choice(list(self.clients.values()))
        what = self.chance.random()
        if what < 0.6:
            for _ in range(self.chance.choice((1, 3, 40, 200))):
                client.send()
        elif what < 0.85 or not kills:
            if client.socket is not None and client.token:  # before its welcome it cannot return
                client.socket.drop()
        else:
            edge = self.chance.choice(self.edges)
            if not edge.bus.alive:
                await edge.start()
            elif sum(e.bus.alive for e in self.edges) > 1 and all(s.client.token for s in edge.sockets):
                self.killed += 1
                edge.kill()

    def check(self) -> None:
        """What must hold at the end."""
        for name, client in self.clients.items():
            peer = self.clients[chr(ord("a") + ((ord(name) - ord("a")) ^ 1))]
            assert client.heard == peer.sent, f"{name} heard {len(client.heard)} of {len(peer.sent)}"
            assert client.delivered == len(client.sent), f"{name} does not know what has arrived"
        told = sum(sum(facts.sizes) for edge in self.edges for facts in edge.lives)
        heard = sum(len(text) for client in self.clients.values() for text in client.heard)
        if self.killed:
            assert told <= heard
        else:
            assert told == heard
