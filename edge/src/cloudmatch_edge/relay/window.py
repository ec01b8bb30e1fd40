"""The two ends of one direction of a match: what makes delivery exactly once and in order.

As TCP does over IP: the sending end numbers frames, keeps them and sends them again when they are not
acknowledged; the receiving end puts them in order, drops what it has seen, and acknowledges cumulatively.
Whatever lies between may lose, repeat, delay and reorder.

An ack has two numbers. What has *arrived* is at the edge that holds the peer, and need not be sent again
while it is held there. What is *taken* is in the peer's hands, and can be forgotten. Between the two lies
what is lost when that edge or the peer's connection dies: it is sent again once the peer is elsewhere.

Frames travel in batches. A batch is sent again as it was, so both ends speak of the same numbers.
Recovery must be fast, not only right: when a batch times out, only the oldest is sent again, as a probe;
once that is acknowledged, everything older than the timeout goes at once.

No clock here: `now` arrives with the event, in seconds.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from cloudmatch_bus.contract.payloads import Payload, pack
from cloudmatch_edge.relay.paths import AROUND, Paths

WINDOW_FRAMES = 256  # frames sent and not in the peer's hands, at most
WINDOW_BYTES = 256 * 1024  # their bytes, at most (one larger frame is let through alone)
RTO = 0.25  # s until the first probe
PROBE = 0.125  # s between probes while there are paths that were not tried
RTO_MAX = 1.0  # s between probes, at most
ACK_EVERY = 16  # frames after which an ack does not wait
ACK_DELAY = 0.02  # s that an ack may wait


class Batch(msgspec.Struct):
    """Frames that travel together, as numbered by the sender."""

    seq: int  # number of the first frame
    end: int  # number after the last
    shape: str
    payload: bytes
    sizes: list[int]  # bytes of the frames
    sent: float  # when last
    path: int  # by which it was last sent


class Sender:
    """The sending end. Frames before `base` were sent by another edge, and taken."""

    def __init__(self, base: int = 0) -> None:
        self.seq = base  # number of the next frame
        self.taken = base  # all frames before are in the peer's hands
        self.progress = 0.0  # when that last grew, or the window began to fill
        self._arrived = base  # all frames before are at the peer's edge
        self._landed: deque[Batch] = deque()  # wholly arrived, not wholly taken
        self._flying: deque[Batch] = deque()  # not wholly arrived
        self._frames = 0  # in both
        self._bytes = 0
        self._sizes: list[int] = []  # of frames that were taken, until `told` asks
        self._rto = RTO
        self._probes = 0  # since an ack last moved the window
        self._recover = 0  # after a probe: batches before this number are sent again once it is acked
        self._paths = Paths()

    @property
    def idle(self) -> bool:
        """Whether everything sent is in the peer's hands."""
        return not self._frames

    @property
    def unacked(self) -> int:
        """Frames sent and not in the peer's hands."""
        return self.seq - self.taken

    @property
    def room(self) -> tuple[int, int]:
        """How many more frames and bytes may come; none while one of the two is not above 0."""
        return WINDOW_FRAMES - self._frames, WINDOW_BYTES - self._bytes

    def push(self, frames: Sequence[Payload], now: float) -> list[Batch]:
        """Number frames and give the batches to send."""
        out = []
        if self.idle:
            self.progress = now
        path = self._paths.at(now)
        for shape, payload, sizes in pack(frames):
            seq, self.seq = self.seq, self.seq + len(sizes)
            batch = Batch(seq, self.seq, shape, payload, sizes, now, path)
            self._flying.append(batch)
            self._frames += len(sizes)
            self._bytes += len(payload)
            out.append(batch)
        return out

    def acked(self, arrived: int, taken: int, now: float) -> list[Batch]:
        """Learn that all frames before `arrived` are at the peer's edge, and all before `taken` in its
        hands; give the batches to send again at once."""
        again = self._land(max(arrived, taken), now)
        if taken > self.taken:
            self._take(min(taken, self.seq), now)
        return again

    def _land(self, arrived: int, now: float) -> list[Batch]:
        self._arrived = max(self._arrived, arrived)
        batch = None
        while self._flying and self._flying[0].end <= self._arrived:
            batch = self._flying.popleft()
            self._landed.append(batch)
        if batch is None:
            return []
        self._paths.worked(batch.path)
        self._rto = RTO
        self._probes = 0
        if not self._flying or self._flying[0].seq >= self._recover:
            return []
        self._recover = 0
        path = self._paths.at(now)
        return [
            self._again(batch, now) for batch in self._flying if batch.path != path or now - batch.sent >= RTO
        ]

    def _take(self, taken: int, now: float) -> None:
        self.progress = now
        for batches_ in (self._landed, self._flying):
            while batches_ and (batch := batches_[0]).seq < taken:
                self._sizes += batch.sizes[max(self.taken - batch.seq, 0) : taken - batch.seq]
                if batch.end > taken:
                    break
                batches_.popleft()
                self._frames -= len(batch.sizes)
                self._bytes -= len(batch.payload)
        self.taken = taken

    @property
    def untold(self) -> int:
        """How many frames were taken since `told` was last asked."""
        return len(self._sizes)

    def told(self) -> list[int]:
        """Give the sizes, in bytes, of frames taken since this was last asked."""
        sizes, self._sizes = self._sizes, []
        return sizes

    def forgo(self, taken: int) -> None:
        """Frames before `taken` are in the peer's hands, and others tell their sizes."""
        if taken > self.taken:
            told = len(self._sizes)
            self._take(min(taken, self.seq), self.progress)
            del self._sizes[told:]

    def restart(self, arrived: int, taken: int, now: float) -> list[Batch]:
        """Learn that the peer is on another edge, which has all frames before `arrived`; give the batches
        that it must have again."""
        if taken > self.taken:
            self._take(min(taken, self.seq), now)
        self.progress = now
        self._arrived = arrived
        self._rto = RTO
        self._probes = 0
        while self._landed and self._landed[-1].end > arrived:
            self._flying.appendleft(self._landed.pop())
        return [self._again(batch, now) for batch in self._flying if batch.end > arrived]

    def refused(self, seq: int, now: float) -> Batch | None:
        """Learn that nobody listened where batch `seq` went; give it to be sent by the fallback."""
        for batch in self._flying:
            if batch.seq == seq:
                if self._paths.refused(batch.path, now):
                    return self._again(batch, now)
                self._rto = RTO  # nobody serves the fallback either: absent, not slow, so no backing off
                return None
        return None

    def due(self, now: float) -> Batch | None:
        """Give the oldest batch if its acknowledgement is overdue, to be sent again as a probe.

        A worker that is frozen, or gone while another subscriber listens, is never reported as a refusal,
        so a probe takes another path than the batch did. Backing off begins when all paths were tried.
        """
        if not self._flying and self._landed and now - self._landed[0].sent >= RTO_MAX:
            return self._again(self._landed[0], now)  # the word that it was taken may be lost
        if not self._flying or now - self._flying[0].sent < self._rto:
            return None
        batch = self._flying[0]
        self._probes += 1
        if self._probes < len(AROUND):
            self._rto = PROBE
        else:
            self._rto = min(2 * self._rto, RTO_MAX)
        self._recover = self.seq
        self._paths.silent(batch.path, now)
        return self._again(batch, now)

    def _again(self, batch: Batch, now: float) -> Batch:
        batch.sent = now
        batch.path = self._paths.at(now)
        return batch


class Receiver:
    """The receiving end. Frames before `base` were received by another edge, and taken."""

    def __init__(self, base: int = 0) -> None:
        self.next = base  # number of the frame expected next
        self.taken = base  # all frames before are in the device's hands
        self.urgent = False  # whether an ack must not wait: a repeat came, or a gap was filled
        self._acked = (base, base)  # next and taken, as the sender was last told
        self._seen = base  # `next` at the last look
        self._held: dict[int, Sequence[Payload]] = {}  # frames that came too early, by first number

    @property
    def owes_ack(self) -> bool:
        """Whether the sender does not know yet how far we are."""
        return self.urgent or (self.next, self.taken) != self._acked

    @property
    def owes_ack_now(self) -> bool:
        """Whether the ack must not wait for `ACK_DELAY`."""
        return self.urgent or self.taken - self._acked[1] >= ACK_EVERY

    def take(self, seq: int, frames: Sequence[Payload]) -> Sequence[Payload]:
        """Take a batch; give the frames to deliver now: in order, each once."""
        if seq > self.next:
            if seq - self.next <= WINDOW_FRAMES:  # a correct sender is never further ahead
                self._held.setdefault(seq, frames)
            return []
        if seq == self.next and not self._held:  # as nearly always
            self.next += len(frames)
            return frames
        out: list[Payload] = []
        self._accept(seq, frames, out)
        if not out:
            self.urgent = True  # seen: the ack was lost, say again where we are
        while self._held and (early := min(self._held)) <= self.next:
            self._accept(early, self._held.pop(early), out)
            self.urgent = True  # a gap was filled: the sender should stop repeating
        return out

    def _accept(self, seq: int, frames: Sequence[Payload], out: list[Payload]) -> None:
        new = frames[self.next - seq :]
        out.extend(new)
        self.next += len(new)

    def skip(self, base: int) -> None:
        """Frames before `base` can never come."""
        self.next = self.taken = base
        self._held = {seq: frames for seq, frames in self._held.items() if seq >= base}
        self.urgent = True

    def look(self) -> bool:
        """Tell whether something has come before the last look and is not acknowledged yet: a device that
        says itself what it has was given time to, since most often one ack tells of both."""
        late, self._seen = self._acked[0] < self._seen, self.next
        return late

    def ack(self) -> tuple[int, int]:
        """Give the numbers to acknowledge (next, taken), and note that they were."""
        self.urgent = False
        self._acked = self.next, self.taken
        return self._acked
