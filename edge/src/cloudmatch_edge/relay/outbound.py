"""From a device to its peer: payloads are sent, retransmitted, and counted once delivered."""

from collections import deque

from prometheus_client import Counter

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import EDGE_ISOLATED_AFTER
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_edge.dialects.base import Send
from cloudmatch_edge.relay.book import Direction
from cloudmatch_edge.relay.paths import DETOURS, FALLBACK, MAIN
from cloudmatch_edge.relay.ports import BusPort
from cloudmatch_edge.relay.sender import WINDOW_PAYLOADS, Batch, Sender

payloads_sent = PlainCounter(
    "cloudmatch_edge_payloads_sent", "Payloads accepted from devices for their match"
)
payloads_delivered = PlainCounter("cloudmatch_edge_payloads_delivered", "Payloads delivered to peers")
bytes_delivered = PlainCounter("cloudmatch_edge_delivered_bytes", "Bytes delivered to peers")
batches_retransmitted = Counter("cloudmatch_edge_batches_resent", "Batches retransmitted")
payloads_undelivered = Counter(
    "cloudmatch_edge_payloads_undelivered", "Payloads that could not be delivered", ["reason"]
)


class Outbound:
    """One direction of a match, at the sending end.

    Args:
        prefix: reply address of the payloads, without their numbers.
        started: whether it begins with payload 0; otherwise `start` says where, once that is known.
        earlier: what the device's previous connection has sent, if it was on this edge.
    """

    def __init__(
        self,
        bus: BusPort,
        app: str,
        device: str,
        peer: str,
        match: int,
        prefix: str,
        *,
        started: bool,
        earlier: "Outbound | None" = None,
    ) -> None:
        self.sender = Sender()
        self.started = started
        # of earlier connections: payloads delivered, as far as known, and sent, at most; None: not known
        self.delivered_before: int = (
            0 if earlier is None else max(earlier.sender.delivered, earlier.delivered_before)
        )
        self._sent_before: int | None = 0 if started else None if earlier is None else earlier.sent
        self._bus = bus
        # When the latest message came that shows what was not delivered by then, or nothing was on its way.
        self._heard_at = bus.now()
        self._late_end = 0  # what is delivered before this number was perhaps delivered some time ago
        self._direction = Direction(app, match, device, peer)
        self._prefix = prefix
        self._refs: deque[tuple[int, str]] = deque()  # (number of a payload, `ref` of its receipt)
        self._subjects = {
            MAIN: subjects.up(app, bus.name, device),
            FALLBACK: subjects.up_fallback(app, bus.name, device),
            **{detour: subjects.up(app, bus.name, device, detour) for detour in DETOURS},
        }

    def start(self, base: int) -> None:
        """Begin with payload `base`: all before were delivered."""
        self.sender = Sender(base)
        self.started = True
        if self._sent_before is None:  # no edge lets more be undelivered
            self._sent_before = base + WINDOW_PAYLOADS

    @property
    def sent(self) -> int | None:
        """How many payloads the device has sent, by all its connections, at most; None: not known."""
        return None if self._sent_before is None else max(self._sent_before, self.sender.next)

    def may_have_sent(self, total: int) -> bool:
        """Whether the device may have sent so many payloads, by all its connections."""
        before = self._sent_before
        return total <= self.sender.next or before is None or total <= before  # an ack asks: no maximum

    def push(self, send: Send) -> None:
        """Send payloads."""
        payloads_sent.value += len(send.payloads)
        sender, now = self.sender, self._bus.now()
        if sender.idle:
            self._heard_at = now
        for index, ref in send.refs:
            self._refs.append((sender.next + index, ref))
        for batch in sender.push(send.payloads, now):
            self._publish(batch)

    # -- what the peer's edge reports; each returns whether payloads were delivered

    def on_ack(self, received: int, delivered: int) -> bool:
        """Account for an ack of the peer's edge."""
        sender, now = self.sender, self._hear()
        before = sender.delivered
        for batch in sender.on_ack(received, delivered, now):
            self._retransmit(batch)
        return self._count(before)

    def resync(self, received: int, delivered: int) -> bool:
        """Retransmit what the peer's new edge lacks."""
        sender, now = self.sender, self._hear()
        before = sender.delivered
        for batch in sender.resync(received, delivered, now):
            self._retransmit(batch)
        return self._count(before)

    def cut_off(self, base: int, since: int) -> bool:
        """Count payloads before `base` as delivered; another connection reports the sizes before `since`."""
        sender, now = self.sender, self._hear()
        before = sender.delivered
        self._report(*sender.skip_sizes(since))
        skipped = sender.delivered - before
        sender.on_ack(base, base, now)
        return self._count(before + skipped) or skipped > 0

    def _hear(self) -> float:
        """Account for news of the peer's edge; return the time."""
        now = self._bus.now()
        self._notice_silence(now)
        self._heard_at = now
        return now

    def _notice_silence(self, now: float) -> None:
        """After a silence, whatever its reason, what was on its way may have been delivered long ago, and the
        peer's edge may have claimed it."""
        if now - self._heard_at > EDGE_ISOLATED_AFTER:
            self._late_end = self.sender.next

    def _count(self, before: int) -> bool:
        delivered = self.sender.delivered - before
        payloads_delivered.value += delivered
        return delivered > 0

    def no_responders(self, seq: int) -> None:
        """Account for batch `seq` having reached no worker."""
        if batch := self.sender.no_responders(seq, self._bus.now()):
            self._retransmit(batch)

    # -- time

    def tick(self, now: float) -> None:
        """Retransmit the oldest batch if its ack is overdue."""
        if batch := self.sender.retransmit_due(now):
            self._retransmit(batch)

    def stalled(self, now: float, patience: float) -> bool:
        """Whether payloads wait, and none was delivered for `patience` seconds."""
        return not self.sender.idle and now - self.sender.progress > patience

    def excuse(self, now: float) -> None:
        """Restart the patience: the peer is not to blame for the time up to `now`."""
        self.sender.progress = now

    # -- reports

    def pop_delivered_refs(self) -> list[str]:
        """Return the refs of payloads delivered since the last call."""
        refs = []
        while self._refs and self._refs[0][0] < self.sender.delivered:
            refs.append(self._refs.popleft()[1])
        return refs

    def report_sizes(self) -> None:
        """Have the sizes counted of payloads delivered since the last call."""
        self._report(*self.sender.pop_delivered_sizes())

    def _report(self, first: int, sizes: list[int]) -> None:
        if not sizes:
            return
        self._notice_silence(self._bus.now())  # this process may have been frozen since the news
        bytes_delivered.value += sum(sizes)
        if first < self._late_end:
            late = self._late_end - first
            self._bus.delivered(self._direction, first, sizes[:late], late=True)
            first, sizes = first + late, sizes[late:]
        if sizes:
            self._bus.delivered(self._direction, first, sizes)

    def count_undelivered(self) -> None:
        """Count the payloads that can no longer be delivered: the match is over."""
        if self.sender.undelivered:
            payloads_undelivered.labels("match_over").inc(self.sender.undelivered)

    def _publish(self, batch: Batch) -> None:
        self._bus.publish(
            self._subjects[batch.path], batch.payload, f"{self._prefix}{batch.seq}.{batch.shape}"
        )

    def _retransmit(self, batch: Batch) -> None:
        batches_retransmitted.inc()
        self._publish(batch)
