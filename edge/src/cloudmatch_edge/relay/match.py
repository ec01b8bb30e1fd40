"""One match of one device, on the edge that holds the device: `Outbound` up, `Inbound` down.

A match outlives connections. Its peer may move to another edge, and so may this device: then a new object, on
whichever edge, takes over where the old one stopped. What was not delivered is kept by the edge and by the
device itself, so nothing need be carried along; the two ends only have to learn how far the other is, by
`Position`s, questions and answers directly between the two edges:

- A new end asks the other one for its position, and begins at what was delivered; the other end retransmits
  what is missing. Of two connections the one with the larger id is the newer; acks and answers name the
  connection they are meant for, since a device may return to an edge that held it before.
- A device that resumes says itself how many payloads it has received. The end that has sent them knows how
  many there were: it lets no larger number count, and tells how many, so that the other end refuses it.
- Only the sending end reports sizes, when payloads are delivered; by `Handover`, of several connections one
  reports each.
"""

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired, Position, encode
from cloudmatch_edge.dialects.base import Send
from cloudmatch_edge.dialects.close_codes import TRY_AGAIN_LATER
from cloudmatch_edge.relay.handover import Handover
from cloudmatch_edge.relay.inbound import Inbound, messages_dropped
from cloudmatch_edge.relay.outbound import Outbound
from cloudmatch_edge.relay.peer import Peer
from cloudmatch_edge.relay.ports import BusPort, MatchOwner, MatchRegistry
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT
from cloudmatch_edge.relay.silence import Silence


class Match:
    """One end of a match.

    Args:
        received: how many payloads the device says to have already, if it continues a match of an earlier
            connection; None if the match is new to it.
    """

    def __init__(
        self,
        device: MatchOwner,
        paired: DevicePaired,
        bus: BusPort,
        registry: MatchRegistry["Match"],
        received: int | None = None,
    ) -> None:
        app, device_id = device.who.app, device.who.id
        self.connection_id = device.connection_id
        self.number = paired.match
        self.peer = Peer(app, paired)
        self.handover = Handover(bus, app, device_id, self.connection_id, paired)
        self.prefix = self.handover.prefix  # reply address of the device's payloads, without their numbers
        earlier = registry.earlier(self.prefix, paired.previous_connection_id)
        self.outbound: Outbound = Outbound(
            bus,
            app,
            device_id,
            self.peer.id,
            self.number,
            self.prefix,
            started=received is None,
            earlier=None if earlier is None else earlier.outbound,
        )
        self.inbound = Inbound(bus, device, self.peer, self.number, received)
        self.unmatching = False  # the device has asked to end it
        self.silent = False  # and nobody has, but no payload came for too long
        self.over = False  # nothing is sent any more
        self._remembered = False  # it is swept
        self._away_shown = False  # the device was told that the peer is disconnected
        self._silence = Silence()
        self._lacks = False  # batches were not taken because the socket was overfull
        self._device = device
        self._bus = bus
        self._registry = registry
        self._distance = paired.distance  # metres
        self._unconfirmed = device.names_match  # until the device acknowledges something of this match
        self._asked_at = float("-inf")

    # -- state

    @property
    def accepts_payloads(self) -> bool:
        """Whether payloads of the device are for this match, not for the previous one."""
        return self.outbound.started and not self._unconfirmed and not self.unmatching

    @property
    def may_unmatch(self) -> bool:
        """Whether an `unmatch` of the device is for this match."""
        return not self._unconfirmed and not self.unmatching

    @property
    def sending(self) -> bool:
        """Whether something that the device sent was not delivered yet."""
        return not self.outbound.sender.idle

    @property
    def superseded(self) -> bool:
        """Whether the device has a newer connection, which may continue the match."""
        return self._device.replaced

    @property
    def current(self) -> bool:
        """Whether the device is still in this match, by this connection."""
        return not self.over and not self._device.replaced

    @property
    def idle(self) -> bool:
        """Whether nothing can become overdue."""
        if self.superseded:
            return self.handover.done
        if self.over:
            return True
        return self.outbound.started and self.outbound.sender.idle and self.inbound.idle

    # -- from the device

    def begin(self) -> None:
        """Ask the peer's edge where to continue, unless the match is new."""
        self._registry.add(self)
        self._show_presence()
        if self.peer.disconnected:
            self._registry.await_peer(self)
        if not self.outbound.started:
            self._registry.watch(self)
            self._ask()

    def push(self, send: Send) -> None:
        """Send payloads of the device to the peer."""
        self._registry.watch(self)
        self.outbound.push(send)

    def on_device_ack(self, total: int) -> None:
        """Account for the device's ack of the first `total` payloads."""
        self._unconfirmed = False
        self.inbound.on_device_ack(total)

    def on_drained(self) -> None:
        """Account for the device's socket having taken what was written; ask for what it could not take."""
        self.inbound.on_socket_drained()
        if self._lacks:
            self._lacks = False
            self._send_position()

    # -- from the peer's edge

    def on_batch(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        """Deliver a batch of the peer, and acknowledge it.

        Raises:
            MalformedBatchError: it cannot be split into payloads.
        """
        device = self._device
        if device.disconnected or device.replaced or not self.outbound.started:
            return  # it is retransmitted, here or to another edge
        if device.socket.overfull:
            self._lacks = True
            return
        if address.edge != self.peer.edge:
            messages_dropped.labels("superseded").inc()  # the peer retransmits it from where it is now
            return
        if not self._remembered:
            self._remembered = True
            self._registry.remember(self)
        if self.inbound.on_batch(address, payload):
            self._registry.watch(self)
        elif self.inbound.ack_soon:
            self._registry.settle_soon(self)

    def on_ack(self, received: int, delivered: int, connection_id: int) -> None:
        """Account for an ack of the peer's connection `connection_id` to this connection."""
        if connection_id != self.peer.connection_id:
            received = delivered  # what another connection received is not where the peer is now
        if not self.outbound.may_have_sent(max(received, delivered)):
            messages_dropped.labels("false_count").inc()
        elif self.outbound.started and self.outbound.on_ack(received, delivered):
            self._on_progress()

    def _on_progress(self) -> None:
        """Report to the device what was delivered; have it counted soon."""
        outbound, device = self.outbound, self._device
        refs = outbound.pop_delivered_refs()
        if self.current:
            device.write(device.dialect.delivered(outbound.sender.delivered, refs))
            device.socket.resume_reading()
        if outbound.sender.sizes_pending:
            self._registry.settle_soon(self)

    # -- time

    def tick(self, now: float, patience: float) -> None:
        """Do what is overdue; close the device if its peer, though connected, has made no progress for
        `patience` seconds."""
        if self.over:
            return
        device, outbound = self._device, self.outbound
        if device.replaced or not outbound.started:
            if now - self._asked_at >= PROBE_TIMEOUT:
                self._ask()
        elif self.peer.disconnected:
            outbound.excuse(now)
        else:
            outbound.tick(now)
            if outbound.stalled(now, patience):
                device.socket.close(TRY_AGAIN_LATER, "the peer made no progress")
        if not device.disconnected:
            self.inbound.tick(now)

    def check_silence(self, now: float, longest: float) -> None:
        """End the match once neither device has sent a payload for `longest` seconds, though both could."""
        could = self.may_unmatch and self.current and self.outbound.started and not self._device.disconnected
        count = self.outbound.sender.next + self.inbound.receiver.next
        if self._silence.seconds(count if could and not self.peer.disconnected else None, now) >= longest:
            self.silent = True
            self._device.leave_match()

    def sweep(self, *, keep: bool) -> bool:
        """Forget what was received some time ago; return whether nothing is left. `keep`: facts cannot be
        stored, so nobody may have counted it."""
        self._remembered = not self.inbound.tail.sweep(self.inbound.receiver.delivered, keep=keep)
        return not self._remembered

    def settle(self) -> None:
        """Send what has waited: acks, sizes."""
        if not self._device.disconnected:
            self.inbound.ack()
        self.outbound.report_sizes()

    # -- where the peer is

    def on_paired(self, paired: DevicePaired) -> None:
        """Update where the peer is."""
        revision, newer = paired.peer_revision, paired.peer_connection_id > self.peer.connection_id
        if not paired.peer_away and (newer or revision):  # without, it may be old: only newer ones count
            self.on_peer_returned(paired.peer_edge, paired.peer_connection_id, revision)
        elif paired.peer_away:
            if newer:
                self.inbound.claim()
                self.peer.move(paired.peer_edge, paired.peer_connection_id)
            self.on_peer_away(paired.peer_connection_id, revision)

    def on_peer_away(self, connection_id: int, revision: int = 0) -> None:
        """The peer's connection `connection_id` has ended, as match-engine says at `revision`."""
        if not self.peer.is_news(revision):
            return
        if connection_id == self.peer.connection_id and not self.peer.disconnected:
            self.inbound.claim()  # its edge may be dead
            self.peer.disconnected = True
            self._registry.await_peer(self)
            self._show_presence()

    @property
    def awaits_peer(self) -> bool:
        """Whether the peer is disconnected, as far as is known here, and the device is not."""
        return self.current and self.peer.disconnected and not self._device.disconnected

    def verify_peer(self) -> None:
        """Have match-engine asked for the state of the match: an update about the peer may be lost."""
        self._device.resync()

    def on_peer_returned(self, edge: str, connection_id: int, revision: int = 0) -> None:
        """The peer's connection `connection_id` is on `edge`, as match-engine says at `revision`."""
        if connection_id < self.peer.connection_id or not self.peer.is_news(revision):
            return
        if connection_id > self.peer.connection_id:
            self.inbound.claim()
            self.peer.move(edge, connection_id)
        self.peer.disconnected = False
        self._show_presence()

    def _show_presence(self) -> None:
        """Tell the device whether the peer is disconnected, if it does not know; never before its match."""
        away = self.peer.disconnected
        if self.outbound.started and away != self._away_shown:
            self._away_shown = away
            dialect = self._device.dialect
            self._device.write((dialect.peer_away if away else dialect.peer_back)(self.peer.id))

    # -- positions

    def _ask(self) -> None:
        """Ask the peer's edge for its position, or, once superseded, the newer connection where it began."""
        self._asked_at = self._bus.now()
        if self.superseded:
            self.handover.ask()
        else:
            self._send_position()

    def _send_position(self, to: int = 0) -> None:
        receiver, outbound = self.inbound.receiver, self.outbound
        position = Position(
            edge=self._bus.name,
            connection_id=self.connection_id,
            next=receiver.next,
            delivered=receiver.delivered,
            base=outbound.sender.delivered if outbound.started else None,
            to=to,
            sent=outbound.sent,
        )
        subject = f"{self.peer.ack_prefix}{position.next}.{subjects.POSITION}"
        self._bus.publish(subject, encode(position))

    def on_position(self, position: Position) -> None:
        """Update how far the peer's edge is; answer if it asks."""
        if self.superseded or position.connection_id < self.peer.connection_id:
            return
        if position.connection_id > self.peer.connection_id:
            self.on_peer_returned(position.edge, position.connection_id)
        outbound = self.outbound
        if position.to and not outbound.started:
            self._check_count(position)
        if position.base is not None:
            self.inbound.skip(position.base)
        if not position.to:
            self._send_position(to=position.connection_id)
            if (
                outbound.started
                and outbound.may_have_sent(position.next)
                and outbound.resync(position.next, position.delivered)
            ):
                self._on_progress()
        # Not if disconnected: match-engine has been notified that this connection sent nothing. If the peer
        # has not begun either, it may yet have to refuse its device's number: ask again.
        elif (
            not outbound.started
            and not self._device.disconnected
            and (position.base is not None or outbound.may_have_sent(position.delivered))
        ):
            self._resume(position.delivered)

    def _check_count(self, position: Position) -> None:
        """Compare how much the device says to have received with how much the peer has sent."""
        if position.sent is not None and self.inbound.receiver.next > position.sent:
            self.inbound.refuse(position.sent, position.base or 0)
            self._send_position()  # the peer retransmits what the device lacks

    def _resume(self, delivered: int) -> None:
        """Continue after `delivered` payloads, or after more, if those are known to be delivered."""
        device, base = self._device, max(delivered, self.outbound.delivered_before)
        self.inbound.checked = True
        self.outbound.start(base)
        self.handover.begin(base)
        device.write(device.dialect.resumed(self.number, self.peer.id, self._distance, base))
        self._show_presence()
        if base > delivered:
            self._send_position()  # the peer must not wait for what nobody has any more

    # -- the end

    def disconnect(self) -> None:
        """Note that the device's connection has ended; another may continue the match."""
        self.inbound.claim(last=True)

    def supersede(self, connection_id: int, edge: str) -> None:
        """Give way to a newer connection; `edge` is empty if it is unknown. Send nothing more: the device
        sends again what was not delivered."""
        self.inbound.claim(last=True)
        self.handover.supersede(connection_id, edge)
        self._registry.watch(self)
        self._registry.linger(self)
        self._ask()

    def on_handover_reply(self, base: int, since: int) -> None:
        """End at payload `base`, where the newer connection began. Sizes before `base` are this connection's
        to report, except those from what it has reported up to `since`; what it never had, the previous one
        had."""
        self._device.supersede(0, "")  # the update about the newer connection may arrive later
        outbound = self.outbound
        if outbound.started:
            if outbound.cut_off(base, since):
                self._on_progress()
            outbound.report_sizes()
        self.handover.cut_off(base, since, outbound.sender.next if outbound.started else None)

    def end(self) -> None:
        """End the match for this connection. Acks in flight still count."""
        self.settle()
        self.inbound.claim(last=True)
        self.over = True
        if self.sending:
            self._registry.linger(self)
        else:
            self._registry.remove(self)

    def close(self) -> None:
        """Drop what cannot be delivered any more."""
        self.outbound.report_sizes()
        self.inbound.claim(last=True)
        if not self.superseded:
            self.outbound.count_undelivered()
        self._registry.remove(self)
