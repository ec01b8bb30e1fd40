"""One connected device: its match, its payloads both ways, and what it hears."""

import logging
from typing import Protocol

from prometheus_client import Counter

from cloudmatch_bus import subjects
from cloudmatch_bus.frames import Frame, split
from cloudmatch_bus.messages import (
    AnyAnswer,
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PayloadsDelivered,
)
from cloudmatch_edge import classic
from cloudmatch_edge.parameters import Parameters
from cloudmatch_edge.paths import DETOURS, FALLBACK, MAIN
from cloudmatch_edge.window import WINDOW_FRAMES, Batch, Receiver, Sender

log = logging.getLogger("device")

REPLACED = 4001  # close code: a newer connection has the same id
STUCK = 1013  # close code: the peer made no progress
SIZES = 50  # payloads whose sizes travel in one fact, at most

_sent = Counter("cloudmatch_edge_payloads_sent", "Payloads taken from devices for their match")
_delivered = Counter("cloudmatch_edge_payloads_delivered", "Payloads given to devices, in order, each once")
_delivered_bytes = Counter("cloudmatch_edge_delivered_bytes", "Bytes of payloads given to devices")
_undelivered = Counter("cloudmatch_edge_payloads_undelivered", "Payloads that had nowhere to go", ["reason"])
_resent = Counter("cloudmatch_edge_batches_resent", "Batches sent again")
_dropped = Counter("cloudmatch_edge_messages_dropped", "Messages from the bus not used", ["reason"])


UNBOUNDED = (1 << 30, 1 << 30)  # frames and bytes: without a match nothing is kept


class Socket(Protocol):
    """What a device needs of its connection. Nothing here waits."""

    def send(self, frame: Frame) -> None:
        """Write a frame by the end of this turn, or do nothing when the connection is closing."""

    def go_on(self) -> None:
        """Take payloads again: `Device.room` has grown."""

    def end(self, code: int, reason: str) -> None:
        """Begin to close."""


class Wire(Protocol):
    """What a device needs of the relay."""

    name: str

    def now(self) -> float:
        """Give the time in seconds; only differences mean anything."""

    def clock(self) -> int:
        """Give ms since 1970."""

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Send to the bus, without waiting."""

    def fact(self, fact: PayloadsDelivered) -> None:
        """Publish what happened."""

    def began(self, match: "Match") -> None:
        """Listen for acks of this match."""

    def busy(self, match: "Match") -> None:
        """Call `tick` of the match until it is idle."""

    def ended(self, match: "Match") -> None:
        """Listen no more."""

    def soon(self, match: "Match") -> None:
        """Call `settle` of the match within a few ms: it owes acks or sizes."""

    def doubt(self, device: "Device") -> None:
        """Ask match-engine again where the device stands."""


class Match:
    """One match of one device, seen from its edge: a sender up, a receiver down."""

    def __init__(self, device: "Device", number: int, peer: str) -> None:
        self.device = device
        self.number = number
        self.peer = peer
        self.sender = Sender()
        self.receiver = Receiver()
        who = device.who
        # reply address of our frames, up to the number
        self.prefix = subjects.ack_prefix(who.app, device.wire.name, who.id, number)
        self._up = {
            MAIN: subjects.up(who.app, who.id),
            FALLBACK: subjects.up_fallback(who.app, who.id),
            **{detour: subjects.up(who.app, who.id, detour) for detour in DETOURS},
        }
        # reply address of the peer's frames; known with the first of them
        self._peer_prefix = ""
        # sizes of payloads delivered and not yet told
        self._sizes: list[int] = []

    # -- up

    def push(self, frames: list[Frame]) -> None:
        """Send payloads of the device to the peer."""
        if self.sender.idle:
            self.device.wire.busy(self)
        for batch in self.sender.push(frames, self.device.wire.now()):
            self._send(batch)

    def acked(self, upto: int) -> None:
        """Learn that the peer's edge has all before `upto`."""
        for batch in self.sender.acked(upto, self.device.wire.now()):
            self._resend(batch)
        self.device.socket.go_on()

    def refused(self, seq: int) -> None:
        """Learn that nobody listened where a batch went."""
        if batch := self.sender.refused(seq, self.device.wire.now()):
            self._resend(batch)

    def tick(self, now: float, patience: float) -> None:
        """Look whether acks are overdue; close the device where none has come for `patience` seconds."""
        if batch := self.sender.due(now):
            self._resend(batch)
        if not self.sender.idle and now - self.sender.progress > patience:
            self.device.socket.end(STUCK, "the peer made no progress")

    def _send(self, batch: Batch) -> None:
        self.device.wire.publish(
            self._up[batch.path], batch.payload, f"{self.prefix}{batch.seq}.{batch.shape}"
        )

    def _resend(self, batch: Batch) -> None:
        _resent.inc()
        self._send(batch)

    # -- down

    def hear(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        """Take a batch of the peer: deliver what is next in order, and acknowledge."""
        try:
            frames = split(address.shape, payload)
        except ValueError as error:
            _dropped.labels("malformed").inc()
            log.warning("dropped a batch of %s: %s", self.peer, error)
            return
        self._peer_prefix = address.prefix
        device = self.device
        for frame in self.receiver.take(address.seq, frames):
            device.socket.send(classic.heard(self.peer, frame))
            self._sizes.append(len(frame.data))
            _delivered.inc()
            _delivered_bytes.inc(len(frame.data))
        if len(self._sizes) >= SIZES:
            self.tell_sizes()
        if self.receiver.owes_ack_now:
            self.ack()
        if self._sizes or self.receiver.owes_ack:
            device.wire.soon(self)

    def settle(self) -> None:
        """Tell what has waited: acks, sizes."""
        self.ack()
        self.tell_sizes()

    def ack(self) -> None:
        """Acknowledge, unless the device's socket is full: so a slow device slows its peer."""
        if self.receiver.owes_ack and not self.device.clogged:
            self.device.wire.publish(f"{self._peer_prefix}{self.receiver.ack()}.{subjects.ACK}", b"")

    def tell_sizes(self) -> None:
        """Publish the sizes delivered so far."""
        sizes, self._sizes = self._sizes, []
        wire, who = self.device.wire, self.device.who
        for start in range(0, len(sizes), SIZES):
            wire.fact(
                PayloadsDelivered(
                    app=who.app,
                    at=wire.clock(),
                    match=self.number,
                    sender=self.peer,
                    receiver=who.id,
                    sizes=sizes[start : start + SIZES],
                )
            )

    def end(self) -> None:
        """Forget what cannot be delivered any more."""
        self.tell_sizes()
        if self.sender.unacked:
            _undelivered.labels("match_over").inc(self.sender.unacked)
        self.device.wire.ended(self)


class Device:
    """A device whose socket this edge holds."""

    def __init__(self, who: Parameters, session: int, socket: Socket, wire: Wire) -> None:
        self.who = who
        self.session = session  # µs since 1970 when the socket was accepted
        self.socket = socket
        self.wire = wire
        self.match: Match | None = None
        self.clogged = False  # the socket's write buffer is over its high-water mark
        self.replaced = False  # a newer connection has the id
        self.subject = subjects.dn(who.app, wire.name, who.id)
        # the highest number heard from match-engine, and whether of a match: it waits since the number that
        # the match gets which it then makes
        self._heard = (0, False)
        # batches of a match that match-engine has not told us of yet
        self._early: list[tuple[subjects.ReplyAddress, bytes]] = []

    @property
    def puzzled(self) -> bool:
        """Whether frames came of a match that it knows nothing of."""
        return bool(self._early)

    # -- from the socket

    @property
    def room(self) -> tuple[int, int]:
        """How many more payloads and bytes the device may send; none while one of the two is not above 0."""
        return UNBOUNDED if self.match is None else self.match.sender.room

    def take(self, payloads: list[Frame]) -> None:
        """Take what one turn of the event loop brought."""
        if self.match is None:
            _undelivered.labels("no_match").inc(len(payloads))
        else:
            _sent.inc(len(payloads))
            self.match.push(payloads)

    def clog(self) -> None:
        """The socket is full: do not acknowledge what it has not taken."""
        self.clogged = True

    def unclog(self) -> None:
        """The socket has room again."""
        self.clogged = False
        if self.match is not None:
            self.match.ack()

    # -- from the bus

    def hear_frames(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        """Take a message with frames of the peer."""
        if self.match is not None and address.epoch == self.match.number:
            self.match.hear(address, payload)
        elif (address.epoch, True) <= self._heard:
            _dropped.labels("stale_match").inc()
        elif len(self._early) < WINDOW_FRAMES:
            # The peer knows of a match that we do not: its news is on the way, or was lost.
            self._early.append((address, payload))
            self.wire.doubt(self)

    def hear_answer(self, answer: AnyAnswer) -> None:
        """Take what match-engine says of this device. News may come twice, and late: numbers order it."""
        match answer:
            case DevicePaired() if (answer.match, True) > self._heard:
                self._heard = (answer.match, True)
                self._begin(answer)
            case DeviceWaiting() if (answer.since, False) > self._heard:
                self._heard = (answer.since, False)
                self.end_match()
            case DeviceUnpaired() if self.match is not None and answer.match == self.match.number:
                self.end_match()
            case DeviceReplaced():
                self.replaced = True
                self.socket.end(REPLACED, "a newer connection has this id")
            case _:
                pass  # old news

    def _begin(self, paired: DevicePaired) -> None:
        self.end_match()
        self.match = Match(self, paired.match, paired.peer)
        self.wire.began(self.match)
        self.socket.send(classic.matched(paired.peer))
        early, self._early = self._early, []
        for address, payload in early:
            self.hear_frames(address, payload)

    def end_match(self) -> None:
        """The match is over; the device waits."""
        if self.match is not None:
            over, self.match = self.match, None
            over.end()
            self.socket.go_on()
