"""The receiving end of one direction of a match: order, duplicates, and what was delivered to the device.

A classic device acknowledges nothing: what its socket took was delivered. A device of `cloudmatch.v1` sends
acks. If it never does, it is served all the same: once half a window waits for its ack and none has come for
a while, what its host took counts as delivered, lest its peer wait for ever. The same holds for a device
whose acks are stuck behind its own payloads while we do not read from it.

No clock here: `now` arrives with the event, in seconds.
"""

from collections import deque
from collections.abc import Callable, Sequence

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.relay.sender import WINDOW_BYTES, WINDOW_PAYLOADS

ACK_EVERY = 16  # delivered payloads after which an ack does not wait
ACK_DELAY = 0.02  # s that an ack may wait
DEVICE_ACK_TIMEOUT = 1.0  # s without an ack of the device


class Receiver:
    """The receiving end. Payloads before `base` were received by another edge, and delivered."""

    def __init__(self, base: int = 0) -> None:
        self.next = base  # number of the payload expected next
        self.delivered = base  # all payloads before were delivered to the device
        self.ack_urgent = False  # whether an ack must not wait: a duplicate came, or a gap was filled
        self._acked = (base, base)  # next and delivered, as last acknowledged
        self._seen = base  # `next` at the last check
        self._early: dict[int, Sequence[Payload]] = {}  # batches that came too early, by first number
        self._written: deque[tuple[int, int]] = deque()  # batches not wholly delivered: where they end, bytes
        self._written_bytes = 0  # of these batches
        self._ack_waited_since = 0.0  # when the device last sent an ack, or had nothing to acknowledge

    # -- from the peer

    def on_batch(self, seq: int, payloads: Sequence[Payload]) -> Sequence[Payload]:
        """Accept a batch; return the payloads to write now: in order, each once."""
        if seq > self.next:
            # a correct sender is never further ahead
            if seq - self.next <= WINDOW_PAYLOADS and self._early_bytes < WINDOW_BYTES:
                self._early.setdefault(seq, payloads)
            return []
        if seq == self.next and not self._early:  # nearly always
            self.next += len(payloads)
            return payloads
        out: list[Payload] = []
        self._accept(seq, payloads, out)
        if not out:
            self.ack_urgent = True  # a duplicate: the ack was lost
        while self._early and (early := min(self._early)) <= self.next:
            self._accept(early, self._early.pop(early), out)
            self.ack_urgent = True  # a gap was filled: the sender should stop retransmitting
        return out

    @property
    def _early_bytes(self) -> int:
        return sum(len(data) for payloads in self._early.values() for _, data in payloads)

    def _accept(self, seq: int, payloads: Sequence[Payload], out: list[Payload]) -> None:
        new = payloads[self.next - seq :]
        out.extend(new)
        self.next += len(new)

    def skip(self, base: int) -> None:
        """Give up on payloads before `base`: they can never come."""
        self.next = self.delivered = base
        self._early = {seq: payloads for seq, payloads in self._early.items() if seq >= base}
        self._written.clear()
        self._written_bytes = 0
        self.ack_urgent = True

    # -- to the device

    @property
    def all_delivered(self) -> bool:
        """Whether everything received was delivered."""
        return self.delivered == self.next

    def on_socket_took_all(self) -> None:
        """Count everything received as delivered: the device acknowledges nothing."""
        self.delivered = self.next

    def on_written(self, count: int, size: int, now: float) -> None:
        """Wait for the device's ack of the last `count` payloads, of `size` bytes in all."""
        if self.delivered == self.next - count:
            self._ack_waited_since = now
        self._written.append((self.next, size))
        self._written_bytes += size

    def on_device_ack(self, total: int, now: float) -> bool:
        """Account for the device's ack of the first `total` payloads, of those received; return whether it is
        new."""
        self._ack_waited_since = now
        if total <= self.delivered:
            return False
        self.delivered = total
        while self._written and self._written[0][0] <= total:
            self._written_bytes -= self._written.popleft()[1]
        return True

    def assume_delivered(self, now: float, acks_readable: bool, host_took_all: Callable[[], bool]) -> bool:
        """Count all that was written as delivered if the device's ack cannot be waited for; return whether it
        was.

        Args:
            acks_readable: whether the device has ever sent an ack, and its socket is read.
            host_took_all: asks whether the device's host has all that was written.
        """
        if acks_readable or now - self._ack_waited_since < DEVICE_ACK_TIMEOUT:
            return False
        if self.next - self.delivered < WINDOW_PAYLOADS // 2 and self._written_bytes < WINDOW_BYTES // 2:
            return False
        return host_took_all() and self.on_device_ack(self.next, now)

    # -- acks to the peer

    @property
    def ack_pending(self) -> bool:
        """Whether something is not acknowledged yet."""
        return self.ack_urgent or (self.next, self.delivered) != self._acked

    @property
    def ack_now(self) -> bool:
        """Whether the ack must not wait for `ACK_DELAY`."""
        return self.ack_urgent or self.delivered - self._acked[1] >= ACK_EVERY

    def ack_overdue(self) -> bool:
        """Whether a payload received before the previous check is still unacknowledged. Devices that send
        acks get one interval, so that one ack can cover both counters."""
        overdue, self._seen = self._acked[0] < self._seen, self.next
        return overdue

    def ack(self) -> tuple[int, int]:
        """Return the numbers to acknowledge (received, delivered), and note that they were."""
        self.ack_urgent = False
        self._acked = self.next, self.delivered
        return self._acked
