"""From the peer to a device: payloads are written in order, and acknowledged."""

from prometheus_client import Counter

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.payloads import split
from cloudmatch_edge.relay.book import Direction
from cloudmatch_edge.relay.peer import Peer
from cloudmatch_edge.relay.ports import BusPort, MatchOwner
from cloudmatch_edge.relay.receiver import Receiver
from cloudmatch_edge.relay.tail import Tail

messages_dropped = Counter("cloudmatch_edge_messages_dropped", "Messages from the bus dropped", ["reason"])
payloads_missing = Counter("cloudmatch_edge_payloads_missing", "Payloads that could never arrive")


class MalformedBatchError(ValueError):
    """The shape of a batch does not fit its payload. It was dropped and counted."""


class Inbound:
    """One direction of a match, at the receiving end.

    Args:
        base: payloads before this number were delivered by an earlier connection; None: there was none.
    """

    def __init__(self, bus: BusPort, device: MatchOwner, peer: Peer, match: int, base: int | None) -> None:
        self.receiver = Receiver(base or 0)
        self.tail = Tail(base or 0)
        self._resumed = base is not None
        # whether `base`, which the device has told, was compared with what was sent
        self.checked = base is None
        # claimed up to here; to be claimed up to there, once delivered
        self._claimed = self._claim_end = base or 0
        self._direction = Direction(device.who.app, match, peer.id, device.who.id)
        self._bus = bus
        self._device = device
        self._device_acks = device.dialect.acknowledges
        self._connection_id = device.connection_id
        self._peer = peer

    @property
    def idle(self) -> bool:
        """Whether no ack of the device is outstanding."""
        return not self._device_acks or self.receiver.all_delivered

    @property
    def ack_soon(self) -> bool:
        """Whether an ack is pending that waits for no ack of the device."""
        return not self._device_acks and self.receiver.ack_pending

    def on_batch(self, address: subjects.ReplyAddress, payload: bytes) -> bool:
        """Write what is next in order, and acknowledge if that must not wait; return whether an ack of the
        device is now outstanding.

        Raises:
            MalformedBatchError: it cannot be split into payloads.
        """
        try:
            payloads = split(address.shape, payload)
        except ValueError as error:
            messages_dropped.labels("malformed").inc()
            raise MalformedBatchError(str(error)) from None
        receiver, device = self.receiver, self._device
        first = receiver.next
        awaits_ack = False
        if new := receiver.on_batch(address.seq, payloads):
            device.write(device.dialect.payloads(self._peer.id, first, new))
            whole = address.shape if new is payloads else [len(data) for _, data in new]
            self.tail.batches.append((first, whole))
            if self._device_acks:
                receiver.on_written(len(new), sum([len(data) for _, data in new]), self._bus.now())
                awaits_ack = True
            elif device.socket.writable:
                receiver.on_socket_took_all()
        if receiver.ack_urgent or (not self._device_acks and receiver.ack_now):
            self.ack()
        return awaits_ack

    def on_device_ack(self, total: int) -> None:
        """Account for the device's ack of the first `total` payloads; refuse it if fewer came."""
        if total > self.receiver.next:
            self._device.write(self._device.dialect.false_count(total, self.receiver.next))
        elif self.receiver.on_device_ack(total, self._bus.now()):
            self._on_delivered()

    def refuse(self, sent: int, base: int) -> None:
        """Refuse the number of payloads that the device says to have received: the peer has `sent` fewer.
        Begin at `base`."""
        self._device.write(self._device.dialect.false_count(self.receiver.next, sent))
        self.receiver = Receiver(base)
        self.tail = Tail(base)

    def on_socket_drained(self) -> None:
        """Account for the socket having taken everything that was written."""
        if not self._device_acks:
            self.receiver.on_socket_took_all()
            self._on_delivered()

    def _on_delivered(self) -> None:
        """Acknowledge; claim what came before the latest claim: the peer's edge of then may count no more."""
        self.ack()
        if self._claimed < self._claim_end:
            self._claim(last=False)

    def skip(self, base: int) -> None:
        """Report a gap up to `base`, if payloads before it are missing: they can never come."""
        first = self.receiver.next
        if base <= first:
            return
        payloads_missing.inc(base - first)
        self.claim()
        self.tail.batches.clear()
        self.receiver.skip(base)
        gap = self._device.dialect.gap(first, base, "they were lost with an earlier connection")
        self._device.write(gap)
        self.ack()

    def claim(self, *, last: bool = False) -> None:
        """Claim what was delivered lately: the peer's edge may have died before it has counted it.

        Args:
            last: nothing more will be delivered by this connection. If it was not the first, the edge of an
                earlier one may have died, too: claim what it has delivered even if its sizes are unknown.
        """
        self._claim_end = self.receiver.next
        self._claim(last=last)

    def _claim(self, *, last: bool) -> None:
        first, sizes = self.tail.take(self.receiver.delivered)
        self._claimed = first + len(sizes)
        if sizes or (last and self._resumed and self.checked):
            self._bus.claimed(self._direction, first, sizes)
        if last:
            self._resumed = False

    def tick(self, now: float) -> None:
        """Acknowledge what the device should have acknowledged itself by now."""
        if not self._device_acks:
            return
        device = self._device
        if self.receiver.assume_delivered(now, device.acks_readable, device.socket.host_took_all):
            self._on_delivered()
        if self.receiver.ack_overdue():
            self.ack()

    def ack(self) -> None:
        """Acknowledge, unless the peer's edge is up to date."""
        if self.receiver.ack_pending:
            received, delivered = self.receiver.ack()
            payload = subjects.ack_payload(delivered, self._connection_id, self._peer.connection_id)
            self._bus.publish(f"{self._peer.ack_prefix}{received}.{subjects.ACK}", payload)
