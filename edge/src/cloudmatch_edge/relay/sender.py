"""The sending end of one direction of a match; with `receiver` it makes delivery exactly once and in order.

As TCP does over IP: the sending end numbers payloads, keeps them, and retransmits what was not acknowledged;
the receiving end reorders, drops duplicates, and acknowledges cumulatively. Whatever lies between may lose,
duplicate, delay and reorder.

An ack has two numbers. What was *received* is at the edge that holds the peer, and is not retransmitted while
it is held there. What was *delivered* is at the peer itself, and can be forgotten. Between the two lies what
is lost when that edge or the peer's connection dies: it is retransmitted once the peer is elsewhere.

Payloads travel in batches. A batch is retransmitted unchanged, so both ends use the same numbers. Recovery
must be fast, not only right: when a batch times out, only the oldest is retransmitted, as a probe; once that
is acknowledged, everything older than the timeout goes at once.

No clock here: `now` arrives with the event, in seconds.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from cloudmatch_bus.contract.payloads import Payload, pack
from cloudmatch_edge.relay.paths import ALTERNATIVES, Paths

WINDOW_PAYLOADS = 256  # payloads sent and not delivered, at most
WINDOW_BYTES = 256 * 1024  # their bytes above which no more are accepted; the last one may exceed it
PROBE_TIMEOUT = 0.25  # s without an ack until the first probe
PROBE_INTERVAL = 0.125  # s between probes while some paths are untried
PROBE_INTERVAL_MAX = 1.0  # s between probes, at most


class Batch(msgspec.Struct):
    """Payloads that travel together, as numbered by the sender."""

    seq: int  # number of the first payload
    end: int  # number after the last
    shape: str
    payload: bytes
    sizes: list[int]  # bytes of each payload
    sent: float  # when last, s
    path: int  # by which it was last sent


class Sender:
    """The sending end. Payloads before `base` were sent by another edge, and delivered."""

    def __init__(self, base: int = 0) -> None:
        self.next = base  # number of the next payload
        self.delivered = base  # all payloads before were delivered to the peer
        self.progress = 0.0  # when that last grew, or the window began to fill
        self._received = base  # all payloads before are at the peer's edge
        self._held: deque[Batch] = deque()  # wholly received, not wholly delivered
        self._in_flight: deque[Batch] = deque()  # not wholly received
        self._payloads = 0  # in both
        self._bytes = 0
        self._delivered_sizes: list[int] = []  # until `pop_delivered_sizes`
        self._timeout = PROBE_TIMEOUT  # s until the next probe
        self._probes = 0  # since an ack last moved the window
        self._recovery_end = 0  # once a probe is acked, batches before this number are retransmitted at once
        self._paths = Paths()

    @property
    def idle(self) -> bool:
        """Whether everything sent was delivered."""
        return not self._payloads

    @property
    def undelivered(self) -> int:
        """Payloads sent and not delivered."""
        return self.next - self.delivered

    @property
    def credit(self) -> tuple[int, int]:
        """How many more payloads and bytes may come; none while either is not positive.

        One payload, however large, leaves some: its device's own acks come behind it, and while two devices
        each wait for the other's ack, both must be read.
        """
        size = WINDOW_BYTES - self._bytes
        return WINDOW_PAYLOADS - self._payloads, size if size > 0 or self._payloads > 1 else 1

    def push(self, payloads: Sequence[Payload], now: float) -> list[Batch]:
        """Number payloads; return the batches to send."""
        out = []
        if self.idle:
            self.progress = now
        path = self._paths.at(now)
        for shape, payload, sizes in pack(payloads):
            seq, self.next = self.next, self.next + len(sizes)
            batch = Batch(seq, self.next, shape, payload, sizes, now, path)
            self._in_flight.append(batch)
            self._payloads += len(sizes)
            self._bytes += len(payload)
            out.append(batch)
        return out

    def on_ack(self, received: int, delivered: int, now: float) -> list[Batch]:
        """Account for an ack of all payloads before `received`, and of those before `delivered`; return the
        batches to retransmit at once."""
        retransmit = self._on_received(max(received, delivered), now)
        if delivered > self.delivered:
            self._on_delivered(min(delivered, self.next), now)
        return retransmit

    def _on_received(self, received: int, now: float) -> list[Batch]:
        self._received = max(self._received, received)
        batch = None
        while self._in_flight and self._in_flight[0].end <= self._received:
            batch = self._in_flight.popleft()
            self._held.append(batch)
        if batch is None:
            return []
        self._paths.acknowledged(batch.path)
        self._timeout = PROBE_TIMEOUT
        self._probes = 0
        if not self._in_flight or self._in_flight[0].seq >= self._recovery_end:
            return []
        self._recovery_end = 0
        path = self._paths.at(now)
        return [
            self._retransmit(batch, now)
            for batch in self._in_flight
            if batch.path != path or now - batch.sent >= PROBE_TIMEOUT
        ]

    def _on_delivered(self, delivered: int, now: float) -> None:
        self.progress = now
        for batches in (self._held, self._in_flight):
            while batches and (batch := batches[0]).seq < delivered:
                self._delivered_sizes += batch.sizes[
                    max(self.delivered - batch.seq, 0) : delivered - batch.seq
                ]
                if batch.end > delivered:
                    break
                batches.popleft()
                self._payloads -= len(batch.sizes)
                self._bytes -= len(batch.payload)
        self.delivered = delivered

    @property
    def sizes_pending(self) -> int:
        """How many sizes `pop_delivered_sizes` would return."""
        return len(self._delivered_sizes)

    def pop_delivered_sizes(self) -> tuple[int, list[int]]:
        """Return the sizes, in bytes, of payloads delivered since the last call, and the number of the first:
        they are the last ones before `delivered`."""
        sizes, self._delivered_sizes = self._delivered_sizes, []
        return self.delivered - len(sizes), sizes

    def skip_sizes(self, delivered: int) -> tuple[int, list[int]]:
        """Count payloads before `delivered` as delivered; another connection reports their sizes. Return what
        `pop_delivered_sizes` would have returned before."""
        popped = self.pop_delivered_sizes()
        if delivered > self.delivered:
            self._on_delivered(min(delivered, self.next), self.progress)
            self._delivered_sizes = []
        return popped

    def resync(self, received: int, delivered: int, now: float) -> list[Batch]:
        """Account for the peer's move to an edge that has all payloads before `received`; return the batches
        that it needs again."""
        if delivered > self.delivered:
            self._on_delivered(min(delivered, self.next), now)
        self.progress = now
        self._received = received
        self._timeout = PROBE_TIMEOUT
        self._probes = 0
        while self._held and self._held[-1].end > received:
            self._in_flight.appendleft(self._held.pop())
        return [self._retransmit(batch, now) for batch in self._in_flight if batch.end > received]

    def no_responders(self, seq: int, now: float) -> Batch | None:
        """Account for batch `seq` having reached no worker; return it if the fallback is to be tried."""
        for batch in self._in_flight:
            if batch.seq == seq:
                if self._paths.no_responders(batch.path, now):
                    return self._retransmit(batch, now)
                # The fallback has none either: workers are absent, not slow, so there is no backing off.
                self._timeout = PROBE_TIMEOUT
                return None
        return None

    def retransmit_due(self, now: float) -> Batch | None:
        """Return the oldest batch if its ack is overdue, to be retransmitted as a probe.

        A worker that is frozen, or dead while another subscriber is still registered, never causes a 503, so
        a probe takes another path than the batch did. Backoff begins once all paths were tried.
        """
        if not self._in_flight and self._held and now - self._held[0].sent >= PROBE_INTERVAL_MAX:
            return self._retransmit(self._held[0], now)  # the ack of its delivery may be lost
        if not self._in_flight or now - self._in_flight[0].sent < self._timeout:
            return None
        batch = self._in_flight[0]
        self._probes += 1
        if self._probes < len(ALTERNATIVES):
            self._timeout = PROBE_INTERVAL
        else:
            self._timeout = min(2 * self._timeout, PROBE_INTERVAL_MAX)
        self._recovery_end = self.next
        self._paths.timed_out(batch.path, now)
        return self._retransmit(batch, now)

    def _retransmit(self, batch: Batch, now: float) -> Batch:
        batch.sent = now
        batch.path = self._paths.at(now)
        return batch
