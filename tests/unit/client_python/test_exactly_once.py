"""Two devices over connections that break anywhere: every payload arrives once and in order, both ways."""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudmatch.core.conversation import Conversation
from cloudmatch.core.events import Data, Gap, PeerLeft
from cloudmatch.core.inbox import ACK_DELAY
from cloudmatch.core.outbox import Delivered, Payload, Refused, Undelivered


@dataclass
class Side:
    """A device, the network between it and the server, and what the server knows of it."""

    device: Conversation = field(default_factory=lambda: Conversation(1, 1))
    up: deque[Data] = field(default_factory=deque)
    down: deque[Data] = field(default_factory=deque)
    connected: bool = False
    # of the payloads that this device sends: what the server has had of them, and the number of the last one
    # that came; None: its edge died with it, but the peer has it
    log: list[Data | None] = field(default_factory=list)
    came: int = 0
    # of the payloads that it is to receive: sent on this connection, and known to be in its hands
    sent: int = 0
    has: int = 0
    # what the application did and heard
    said: list[Payload] = field(default_factory=list)
    heard: list[Data] = field(default_factory=list)
    receipts: list[Payload] = field(default_factory=list)


class World:
    """Both sides, and a server that keeps nothing it need not keep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sides = (Side(), Side())

    def other(self, side: Side) -> Side:
        return self.sides[1] if side is self.sides[0] else self.sides[0]

    # -- the network

    def connect(self, side: Side) -> None:
        if side.connected:
            return
        query = side.device.connect(self.now)
        side.connected = True
        self.tell(side, type="welcome", device="d", session="s", resume="r", grace=30, max_payload=65536)
        if "resume" not in query:
            self.tell(side, type="waiting", since=0)
            self.tell(side, type="matched", match=7, peer="p", distance=1.0)
            return
        received = int(query["received"]) if query.get("match") == "7" else 0
        assert received >= side.has, "it has forgotten what it had acknowledged"
        side.has = side.sent = received
        log = self.other(side).log
        log += [None] * (received - len(log))
        side.came = self.other(side).has
        self.tell(side, type="resumed", match=7, peer="p", distance=1.0, received=side.came)
        self.acknowledge(self.other(side))

    def drop(self, side: Side, forget: bool) -> None:
        """Break a connection: all under way on it is lost. The edge may die with it."""
        if not side.connected:
            return
        side.connected = False
        side.up.clear()
        side.down.clear()
        if forget:
            peer = self.other(side)
            del side.log[max(peer.sent if peer.connected else 0, peer.has) :]
        side.device.lost(None, self.now)

    def tell(self, side: Side, **frame: Any) -> None:
        side.down.append(json.dumps(frame))

    def acknowledge(self, side: Side) -> None:
        """Tell a device how much its peer has."""
        if side.connected:
            self.tell(side, type="ack", delivered=self.other(side).has)

    # -- the server

    def hear(self, side: Side, frame: Data) -> None:
        peer = self.other(side)
        said = {"type": "message"} if isinstance(frame, bytes) else json.loads(frame)
        if said["type"] == "ack":
            assert said["match"] == 7
            assert said["received"] >= side.has, "an ack fell"
            if said["received"] > side.has:
                for number in range(side.has, said["received"]):
                    ref = self.ref(peer, number)
                    if ref is not None and peer.connected:
                        self.tell(peer, type="receipt", ref=ref)
                side.has = said["received"]
                self.acknowledge(peer)
        elif said["type"] == "message":
            side.came += 1
            if side.came <= len(side.log):
                assert side.log[side.came - 1] in (frame, None), "another payload under the same number"
            else:
                side.log.append(frame)
                assert len(side.log) == side.came, "a payload is missing"

    def ref(self, side: Side, index: int) -> str | None:
        frame = side.log[index]
        return json.loads(frame).get("ref") if isinstance(frame, str) else None

    def serve(self, side: Side) -> None:
        """Send a device what its peer's log holds for it, at most a window."""
        log = self.other(side).log
        while side.connected and side.sent < min(len(log), side.has + 256):
            frame = log[side.sent]
            side.sent += 1
            assert frame is not None
            if isinstance(frame, bytes):
                side.down.append(frame)
            else:
                self.tell(side, type="message", **{"from": "p"}, n=side.sent, text=json.loads(frame)["text"])

    # -- what happens

    def move(self, side: Side, up: int, down: int) -> None:
        """Let some frames of both ways arrive."""
        if side.connected:
            side.up.extend(side.device.frames())
        for _ in range(min(up, len(side.up))):
            self.hear(side, side.up.popleft())
        self.serve(side)
        for _ in range(min(down, len(side.down))):
            side.device.receive(side.down.popleft(), self.now)
        self.listen(side)

    def listen(self, side: Side) -> None:
        for event in side.device.events():
            assert not isinstance(event, PeerLeft | Gap | Undelivered | Refused), event
            if isinstance(event, Delivered):
                side.receipts.append(event.payload)

    def send(self, side: Side, binary: bool, receipt: bool) -> None:
        if side.device.peer is not None:
            number = str(len(side.said))
            side.said.append(side.device.send(number.encode() if binary else number, receipt))

    def take(self, side: Side, count: int) -> None:
        for _ in range(min(count, len(side.device.inbox))):
            side.heard.append(side.device.take(self.now))

    def wait(self) -> None:
        self.now += ACK_DELAY
        for side in self.sides:
            side.device.tick(self.now)

    def finish(self) -> None:
        """Let everything arrive."""
        for _ in range(50 + 2 * sum(len(s.said) for s in self.sides)):
            for side in self.sides:
                self.connect(side)
                self.move(side, 1000, 1000)
                self.take(side, 1000)
            self.wait()
            if not any(len(s.device.outbox) for s in self.sides):
                return


which = st.integers(0, 1)
few = st.integers(1, 20)
moves = st.tuples(st.just("move"), which, few, few)
steps = st.one_of(
    st.tuples(st.just("send"), which, st.booleans(), st.booleans()),
    st.tuples(st.just("burst"), which, st.sampled_from([2, 5, 20, 140])),
    moves,
    moves,
    moves,
    st.tuples(st.just("take"), which, few),
    st.tuples(st.just("drop"), which, st.booleans(), st.booleans()),
    st.tuples(st.just("connect"), which),
    st.tuples(st.just("wait")),
)


@pytest.mark.timeout(400)  # it finds a short course when it fails
@settings(max_examples=150)
@given(st.lists(steps, min_size=40, max_size=120))
def test_payloads_arrive_once_and_in_order_wherever_connections_break(course: list[tuple[Any, ...]]) -> None:
    world = World()
    for side in world.sides:
        world.connect(side)
        world.move(side, 10, 10)
    for what, *how in course:
        side = world.sides[how[0]] if how else world.sides[0]
        match what:
            case "send":
                world.send(side, how[1], how[2])
            case "burst":
                for number in range(how[1]):
                    world.send(side, number % 3 == 0, number % 5 == 0)
            case "move":
                world.move(side, how[1], how[2])
            case "take":
                world.take(side, how[1])
            case "drop":
                world.drop(side, forget=how[1])
                if how[2]:
                    world.connect(side)
                    world.move(side, 10, 10)
            case "connect":
                world.connect(side)
            case "wait":
                world.wait()
    world.finish()
    for side in world.sides:
        assert world.other(side).heard == [payload.data for payload in side.said]
        assert side.receipts == [payload for payload in side.said if payload.receipt]
        assert len(side.device.outbox) == 0
