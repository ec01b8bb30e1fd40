"""Devices of the Python client: its conversation, and an application that sends and takes payloads."""

import asyncio
import random
from collections import deque
from typing import Protocol

from cloudmatch.core.conversation import Conversation
from cloudmatch.core.events import Closed, Data, Gap, PeerLeft, ServerError
from cloudmatch.core.outbox import Delivered, Payload, Refused, Undelivered
from simulation.processes import Edge, Frame, Socket
from simulation.wire import Wire

RECONNECT = 1.0  # s at most after a connection has ended
PAUSE = 0.05  # s between two turns of an application that takes its time
FAILURES = (Closed, Gap, PeerLeft, Refused, ServerError, Undelivered)


class Edges(Protocol):
    """Where devices connect."""

    chance: random.Random

    def any_edge(self) -> Edge:
        """An edge that is alive."""


class SimulatedDevice:
    """A device that connects again whenever it is dropped.

    Some applications take payloads at once, others a few at a time; some wait while much is in flight,
    others send on.
    """

    def __init__(self, world: Edges, name: str, lat: float) -> None:
        self.name = name
        self.wire = Wire(name)
        self.socket: Socket | None = None
        self.payloads: list[Data] = []  # all that it was asked to send
        self.sent: list[Payload] = []
        self.received: list[Data] = []
        self.receipts: list[Payload] = []
        self.conversation = Conversation(lat, 0)
        self._world = world
        self.seen_at: dict[str, float] = {}  # by edge: when it was last connected there
        self._leaving = False
        self._unsent: deque[Data] = deque()
        self._takes_its_time = world.chance.random() < 0.3
        self._sends_on = world.chance.random() < 0.2
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.TimerHandle | None = None

    # -- the application

    def send(self) -> None:
        """Send another payload, as soon as there is a peer."""
        text = f"{self.name}{len(self.payloads)}" + "x" * self._world.chance.randrange(20)
        self.payloads.append(text.encode() if len(text) % 3 == 0 else text)
        self._unsent.append(self.payloads[-1])
        self._step()

    def _send_waiting(self) -> None:
        conversation = self.conversation
        while self._unsent and conversation.peer and (self._sends_on or not conversation.outbox.full):
            data = self._unsent.popleft()
            self.sent.append(conversation.send(data, receipt=len(data) % 5 == 0))

    def _take(self, most: int) -> None:
        for _ in range(min(most, len(self.conversation.inbox))):
            self.received.append(self.conversation.take(self._now()))

    def _take_some(self) -> None:
        self._turn = None
        self._take(self._world.chance.randint(1, 40))
        self._step()

    @property
    def settled(self) -> bool:
        """Whether all that it was asked to send is delivered."""
        return not self._unsent and not len(self.conversation.outbox)

    # -- connections

    def connect(self) -> None:
        """Connect to an edge."""
        query = self.conversation.connect(self._now())
        self.wire.on_connect(query)
        edge = self._world.any_edge()
        self.seen_at[edge.name] = self._now()
        self.socket = edge.accept(self, self.name, query)

    def on_close(self, socket: Socket, code: int) -> None:
        """Connect again some time later."""
        if socket is self.socket:
            assert code == 1006, f"{self.name} was closed with {code}"
            self.seen_at[socket.edge.name] = self._now()
            self.socket = None
            if self._leaving:
                return
            self.conversation.lost(None, self._now())
            delay = self._world.chance.random() * RECONNECT
            asyncio.get_running_loop().call_later(delay, self._reconnect)

    def leave(self) -> None:
        """Break the connection for good."""
        self._leaving = True
        if self.socket is not None:
            self.socket.drop()

    def _reconnect(self) -> None:
        if self.socket is None and not self._leaving:
            self.connect()

    def on_frame(self, socket: Socket, frame: Frame) -> None:
        """Receive a frame."""
        if socket is self.socket:
            self.wire.on_received(frame)
            self.conversation.receive(frame, self._now())
            self._step()

    # -- the conversation

    def _step(self) -> None:
        conversation, loop = self.conversation, asyncio.get_running_loop()
        self._send_waiting()
        if not self._takes_its_time:
            self._take(len(conversation.inbox))
        elif len(conversation.inbox) and self._turn is None:
            self._turn = loop.call_later(PAUSE, self._take_some)
        for event in conversation.events():
            assert not isinstance(event, FAILURES), event
            if isinstance(event, Delivered):
                self.receipts.append(event.payload)
        if self.socket is not None:
            for frame in conversation.frames():
                self.wire.on_sent(frame)
                self.socket.send(frame)
        deadline = conversation.deadline
        if deadline is not None and (self._timer is None or deadline < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(max(deadline, self._now()), self._on_deadline)

    def _on_deadline(self) -> None:
        self._timer = None  # the deadline may have moved on since
        self.conversation.tick(self._now())
        if self.conversation.dead and self.socket is not None:
            self.socket.drop()
        self._step()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
