"""One match of one device, seen from the edge that holds it: a sender up, a receiver down.

A match outlives connections. Its other end may move to another edge, and so may this one: then a new
object, on whatever edge, takes over where the old one stopped. What is not in the peer's hands is kept, by
the edge and by the device itself, so nothing need be carried along; the ends only learn from each other
how far they are, by `Position`s, questions and answers directly between the two edges:

- A new end asks the other for its position, and begins where the peer's hands are. The other end sends
  again what the new one lacks. Of two connections the one with the larger session is the newer; acks and
  answers name the session they are meant for, since a device may come back to an edge that held it before.
- Only the sending end tells sizes, when payloads come into the peer's hands; `handover` sees to it that
  of several connections one tells each.
"""

import logging
from collections import deque
from typing import TYPE_CHECKING

from prometheus_client import Counter

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired, PayloadsDelivered, Position, encode
from cloudmatch_bus.contract.payloads import split
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_edge.dialects.base import Send
from cloudmatch_edge.dialects.close_codes import TRY_AGAIN_LATER
from cloudmatch_edge.relay.handover import Handover
from cloudmatch_edge.relay.paths import DETOURS, FALLBACK, MAIN
from cloudmatch_edge.relay.receiver import Receiver
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT, WINDOW_PAYLOADS, Batch, Sender

if TYPE_CHECKING:
    from cloudmatch_edge.relay.device import Device

log = logging.getLogger("match")

SIZES = WINDOW_PAYLOADS  # payloads whose sizes do not wait to be told

_sent = PlainCounter("cloudmatch_edge_payloads_sent", "Payloads taken from devices for their match")
_delivered = PlainCounter("cloudmatch_edge_payloads_delivered", "Payloads in the hands of peers")
_delivered_bytes = PlainCounter("cloudmatch_edge_delivered_bytes", "Bytes of payloads in the hands of peers")
undelivered = Counter("cloudmatch_edge_payloads_undelivered", "Payloads that had nowhere to go", ["reason"])
_resent = Counter("cloudmatch_edge_batches_resent", "Batches sent again")
dropped = Counter("cloudmatch_edge_messages_dropped", "Messages from the bus not used", ["reason"])
_gaps = Counter("cloudmatch_edge_payloads_missing", "Payloads that could never arrive")


class Match:
    """One end of a match.

    Args:
        received: how many payloads the device has already, where it goes on with a match of an earlier
            connection; None where the match is new to it.
    """

    def __init__(self, device: "Device", paired: DevicePaired, received: int | None = None) -> None:
        self.device = device
        self._device_acks = device.dialect.acknowledges
        self.connection_id = device.connection_id
        self.number = paired.match
        self.peer = paired.peer
        self.distance = paired.distance  # metres
        base = received or 0
        # None until it is known where to begin
        self.sender = Sender() if received is None else None
        self.receiver = Receiver(base)
        self.fenced = device.names_match  # until the device has said that it knows of this match
        self.parting = False  # the device has asked to end it
        self.over = False  # nothing is sent any more
        self.peer_away = paired.peer_away
        self._refs: deque[tuple[int, str]] = deque()  # (payload's number, what its receipt names)
        self._asked = float("-inf")
        who = device.who
        self.handover = Handover(who.app, who.id, self.number, self.connection_id, device.wire, paired)
        self.prefix = self.handover.prefix  # reply address of our frames, up to their number
        self._up = {
            MAIN: subjects.up(who.app, who.id),
            FALLBACK: subjects.up_fallback(who.app, who.id),
            **{detour: subjects.up(who.app, who.id, detour) for detour in DETOURS},
        }
        self._peer_at(paired.peer_edge, paired.peer_connection_id)

    def _peer_at(self, edge: str, connection_id: int) -> None:
        self.peer_connection_id = connection_id
        self._peer_edge = subjects.token(edge)
        self._peer_prefix = subjects.ack_prefix(self.device.who.app, edge, self.peer, self.number)

    @property
    def sending(self) -> bool:
        """Whether something that the device sent is not in the peer's hands yet."""
        return self.sender is not None and not self.sender.idle

    @property
    def idle(self) -> bool:
        """Whether nothing can become overdue."""
        if self.superseded:
            return self.handover.done
        if self.over:
            return True
        acked = not self._device_acks or self.receiver.all_delivered
        return self.sender is not None and self.sender.idle and acked

    @property
    def current(self) -> bool:
        """Whether the device is still in this match, by this connection."""
        return self.device.match is self and not self.superseded

    def begin(self) -> None:
        """Ask where to go on, unless it begins at the beginning."""
        if self.sender is None:
            self.device.wire.busy(self)
            self._ask()

    # -- up

    def push(self, send: Send) -> None:
        """Send payloads of the device to the peer."""
        assert self.sender is not None
        wire = self.device.wire
        _sent.value += len(send.payloads)
        wire.busy(self)
        for at, ref in send.refs:
            self._refs.append((self.sender.next + at, ref))
        for batch in self.sender.push(send.payloads, wire.now()):
            self._send(batch)

    def acked(self, arrived: int, taken: int, connection_id: int) -> None:
        """Hear an ack of the peer's connection `connection_id` to this connection."""
        if self.sender is None:
            return
        if connection_id != self.peer_connection_id:
            arrived = taken  # what has arrived elsewhere has not arrived where the peer is now
        before = self.sender.delivered
        for batch in self.sender.on_ack(arrived, taken, self.device.wire.now()):
            self._resend(batch)
        self._progress(before)

    def _progress(self, before: int) -> None:
        """Tell what has come into the peer's hands."""
        assert self.sender is not None
        taken = self.sender.delivered
        if taken == before:
            return
        _delivered.value += taken - before
        refs = []
        while self._refs and self._refs[0][0] < taken:
            refs.append(self._refs.popleft()[1])
        if self.current:
            self.device.say(self.device.dialect.taken(taken, refs))
            self.device.socket.go_on()
        if self.sender.delivered_sizes >= SIZES:
            self._tell_sizes()
        if self.sender.delivered_sizes:
            self.device.wire.soon(self)

    def refused(self, seq: int) -> None:
        """Learn that nobody listened where a batch went."""
        if self.sender is not None and (batch := self.sender.no_responders(seq, self.device.wire.now())):
            self._resend(batch)

    def tick(self, now: float, patience: float) -> None:
        """Look whether anything is overdue; close the device when its peer, though not away, has made no
        progress for `patience` seconds."""
        if self.over:
            return
        if self.superseded or self.sender is None:
            if now - self._asked >= PROBE_TIMEOUT:
                self._ask()
        elif self.peer_away:
            self.sender.progress = now
        else:
            if batch := self.sender.retransmit_due(now):
                self._resend(batch)
            if not self.sender.idle and now - self.sender.progress > patience:
                self.device.socket.end(TRY_AGAIN_LATER.code, "the peer made no progress")
        if self._device_acks and not self.device.away:
            if self.receiver.assume_delivered(now, self.device.audible):
                self.ack()
            if self.receiver.ack_overdue():
                self.ack()

    def thaw(self, now: float) -> None:
        """This edge stood still until now: nobody else is to blame for what is overdue."""
        if self.sender is not None:
            self.sender.progress = now

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
        device = self.device
        if device.away or self.superseded or self.sender is None:
            return  # it comes again, here or elsewhere
        if address.edge != self._peer_edge:
            dropped.labels("superseded").inc()  # the peer says it again from where it is now
            return
        try:
            frames = split(address.shape, payload)
        except ValueError as error:
            dropped.labels("malformed").inc()
            log.warning("dropped a batch of %s: %s", self.peer, error)
            return
        receiver = self.receiver
        first = receiver.next
        if new := receiver.on_batch(address.seq, frames):
            device.say(device.dialect.heard(self.peer, first, new))
            if self._device_acks:
                receiver.on_written(len(new), sum([len(data) for _, data in new]), device.wire.now())
                device.wire.busy(self)
            elif not device.clogged:
                receiver.on_socket_took_all()
        if not self._device_acks or receiver.ack_urgent:
            self._acknowledge()

    def received(self, total: int) -> None:
        """The device says that it has the first `total` payloads."""
        if self._device_acks and self.receiver.on_device_ack(total, self.device.wire.now()):
            self.ack()

    def unclogged(self) -> None:
        """The socket has taken all that it was given."""
        if not self._device_acks:
            self.receiver.on_socket_took_all()
            self.ack()

    def _acknowledge(self) -> None:
        if self.receiver.ack_now:
            self.ack()
        elif self.receiver.ack_pending:
            self.device.wire.soon(self)

    def ack(self) -> None:
        """Say how far we are, if the peer's edge does not know."""
        if self.receiver.ack_pending:
            arrived, taken = self.receiver.ack()
            payload = subjects.ack_payload(taken, self.connection_id, self.peer_connection_id)
            self.device.wire.publish(f"{self._peer_prefix}{arrived}.{subjects.ACK}", payload)

    def settle(self) -> None:
        """Tell what has waited: acks, sizes."""
        if not self.device.away:
            self.ack()
        self._tell_sizes()

    def _tell_sizes(self) -> None:
        if self.sender is None or not (sizes := self.sender.pop_delivered_sizes()):
            return
        _delivered_bytes.value += sum(sizes)
        wire, who = self.device.wire, self.device.who
        wire.fact(
            PayloadsDelivered(
                app=who.app,
                at=wire.clock(),
                match=self.number,
                sender=who.id,
                receiver=self.peer,
                sizes=sizes,
            )
        )

    # -- where the peer is

    def peer_went(self, connection_id: int) -> None:
        """The peer's connection `connection_id` is gone."""
        if connection_id == self.peer_connection_id and not self.peer_away:
            self.peer_away = True
            self.device.say(self.device.dialect.away(self.peer))

    def peer_stands(self, paired: DevicePaired) -> None:
        """Learn from news that may be older where the peer is: whoever is away is not back by them."""
        if paired.peer_connection_id > self.peer_connection_id and not paired.peer_away:
            self.peer_at(paired.peer_edge, paired.peer_connection_id)
        elif paired.peer_away:
            if paired.peer_connection_id > self.peer_connection_id:
                self._peer_at(paired.peer_edge, paired.peer_connection_id)
            self.peer_went(paired.peer_connection_id)

    def peer_at(self, edge: str, connection_id: int) -> None:
        """The peer's connection `connection_id` is on `edge`."""
        if connection_id < self.peer_connection_id:
            return
        if connection_id > self.peer_connection_id:
            self._peer_at(edge, connection_id)
        if self.peer_away:
            self.peer_away = False
            self.device.say(self.device.dialect.back(self.peer))

    def _ask(self) -> None:
        """Ask the peer how far it is, or, if this connection is superseded, its successor where it began."""
        self._asked = self.device.wire.now()
        if self.superseded:
            self.handover.ask()
        else:
            self._tell_position()

    def _tell_position(self, to: int = 0) -> None:
        position = Position(
            edge=self.device.wire.name,
            connection_id=self.connection_id,
            next=self.receiver.next,
            delivered=self.receiver.delivered,
            base=None if self.sender is None else self.sender.delivered,
            to=to,
        )
        self.device.wire.publish(f"{self._peer_prefix}{position.next}.{subjects.POSITION}", encode(position))

    def hear_position(self, position: Position) -> None:
        """Learn how far the peer's edge is; answer if it asks."""
        if self.superseded or position.connection_id < self.peer_connection_id:
            return
        if position.connection_id > self.peer_connection_id:
            self.peer_at(position.edge, position.connection_id)
        if position.base is not None and position.base > self.receiver.next:
            self._miss(position.base)
        if not position.to:
            self._tell_position(to=position.connection_id)
            self._restart(position)
        elif self.sender is None and not self.device.away:  # else match-engine was told that nothing began
            self._begin(position.delivered)

    def _begin(self, base: int) -> None:
        """Go on sending: the peer has all before `base`."""
        device = self.device
        self.sender = Sender(base)
        self.handover.begin(base)
        device.say(device.dialect.resumed(self.number, self.peer, self.distance, base))

    def _restart(self, position: Position) -> None:
        if self.sender is None:
            return
        before = self.sender.delivered
        for batch in self.sender.resync(position.next, position.delivered, self.device.wire.now()):
            self._resend(batch)
        self._progress(before)

    def _miss(self, base: int) -> None:
        first = self.receiver.next
        _gaps.inc(base - first)
        self.receiver.skip(base)
        self.device.say(self.device.dialect.gap(first, base, "they were lost with an earlier connection"))
        self._acknowledge()

    # -- the end

    @property
    def superseded(self) -> bool:
        """Whether the device has a newer connection, which may go on with the match."""
        return self.device.replaced

    def supersede(self, connection_id: int, edge: str) -> None:
        """The device has a newer connection, known unless `edge` is empty. Send nothing more; the device
        says again what the peer does not have."""
        self.handover.supersede(connection_id, edge)
        self.device.wire.busy(self)
        self.device.wire.linger(self)
        self._ask()

    def cut_off(self, base: int, since: int) -> None:
        """Payloads before `base`, though not those between the ones told already and `since`, are this
        connection's to tell. What of them it never had, the one before it had."""
        if self.sender is not None:
            before = self.sender.delivered
            self.sender.skip_sizes(since)
            self.sender.on_ack(base, base, self.device.wire.now())
            self._progress(before)
            self._tell_sizes()
        self.handover.cut_off(base, since, None if self.sender is None else self.sender.next)

    def end(self) -> None:
        """The match is over for this connection. Acks on their way still count."""
        self.settle()
        self.over = True
        if self.sending:
            self.device.wire.linger(self)
        else:
            self.device.wire.ended(self)

    def close(self) -> None:
        """Forget what cannot be delivered any more."""
        self._tell_sizes()
        if self.sender is not None and self.sender.undelivered and not self.superseded:
            undelivered.labels("match_over").inc(self.sender.undelivered)
        self.device.wire.ended(self)
