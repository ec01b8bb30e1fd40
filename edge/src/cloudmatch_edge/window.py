"""The two ends of one direction of a match: what makes delivery exactly once and in order.

As TCP does over IP: the sending end numbers frames, keeps them until they are acknowledged and sends
them again when they are not; the receiving end puts them in order, drops what it has seen, and
acknowledges cumulatively. Whatever lies between may lose, repeat, delay and reorder.

Frames travel in batches. A batch is sent again as it was, so both ends speak of the same numbers.
Recovery must be fast, not only right: when a batch times out, only the oldest is sent again, as a probe;
once that is acknowledged, everything older than the timeout goes at once.

No clock here: `now` arrives with the event, in seconds.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from cloudmatch_bus.frames import Frame, batches, join
from cloudmatch_edge.paths import AROUND, Paths

WINDOW_FRAMES = 256  # frames sent and not acknowledged, at most
WINDOW_BYTES = 256 * 1024  # their bytes, at most (one larger frame is let through alone)
RTO = 0.25  # s until the first probe
PROBE = 0.125  # s between probes while there are paths that were not tried
RTO_MAX = 1.0  # s between probes, at most
ACK_EVERY = 16  # frames after which an ack does not wait
ACK_DELAY = 0.02  # s that an ack may wait


class Batch:
    """Frames that travel together, as numbered by the sender."""

    __slots__ = ("end", "path", "payload", "sent", "seq", "shape")

    def __init__(self, seq: int, frames: Sequence[Frame], now: float, path: int) -> None:
        self.seq = seq  # number of the first frame
        self.end = seq + len(frames)  # number after the last
        self.shape, self.payload = join(frames)
        self.sent = now  # when last sent
        self.path = path  # by which it was last sent


class Sender:
    """The sending end."""

    def __init__(self) -> None:
        self.seq = 0  # number of the next frame
        self.progress = 0.0  # when an ack last moved the window, or the window began to fill
        self._unacked: deque[Batch] = deque()
        self._frames = 0  # in _unacked
        self._bytes = 0
        self._rto = RTO
        self._probes = 0  # since an ack last moved the window
        self._recover = 0  # after a probe: batches before this number are sent again once it is acked
        self._paths = Paths()

    @property
    def idle(self) -> bool:
        """Whether everything sent is acknowledged."""
        return not self._unacked

    @property
    def unacked(self) -> int:
        """Frames sent and not acknowledged."""
        return self._frames

    @property
    def room(self) -> tuple[int, int]:
        """How many more frames and bytes may come; none while one of the two is not above 0."""
        return WINDOW_FRAMES - self._frames, WINDOW_BYTES - self._bytes

    def push(self, frames: Iterable[Frame], now: float) -> list[Batch]:
        """Number frames and give the batches to send."""
        out = []
        if self.idle:
            self.progress = now
        for group in batches(frames):
            batch = Batch(self.seq, group, now, self._paths.at(now))
            self.seq = batch.end
            self._unacked.append(batch)
            self._frames += len(group)
            self._bytes += len(batch.payload)
            out.append(batch)
        return out

    def acked(self, upto: int, now: float) -> list[Batch]:
        """Learn that all frames before `upto` have arrived; give the batches to send again at once."""
        moved = False
        while self._unacked and self._unacked[0].end <= upto:
            batch = self._unacked.popleft()
            self._frames -= batch.end - batch.seq
            self._bytes -= len(batch.payload)
            moved = True
        if not moved:
            return []
        self._paths.worked(batch.path)
        self.progress = now
        self._rto = RTO
        self._probes = 0
        if not self._unacked or self._unacked[0].seq >= self._recover:
            return []
        self._recover = 0
        path = self._paths.at(now)
        return [
            self._again(batch, now)
            for batch in self._unacked
            if batch.path != path or now - batch.sent >= RTO
        ]

    def refused(self, seq: int, now: float) -> Batch | None:
        """Learn that nobody listened where batch `seq` went; give it to be sent by the fallback."""
        for batch in self._unacked:
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
        if not self._unacked or now - self._unacked[0].sent < self._rto:
            return None
        batch = self._unacked[0]
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
    """The receiving end."""

    def __init__(self) -> None:
        self.next = 0  # number of the frame expected next
        self.urgent = False  # whether an ack must not wait: a repeat came, or a gap was filled
        self._acked = 0  # what the sender was last told
        self._held: dict[int, Sequence[Frame]] = {}  # frames that came too early, by first number

    @property
    def owes_ack(self) -> bool:
        """Whether the sender does not know yet how far we are."""
        return self.urgent or self.next != self._acked

    @property
    def owes_ack_now(self) -> bool:
        """Whether the ack must not wait for `ACK_DELAY`."""
        return self.urgent or self.next - self._acked >= ACK_EVERY

    def take(self, seq: int, frames: Sequence[Frame]) -> list[Frame]:
        """Take a batch; give the frames to deliver now: in order, each once."""
        if seq > self.next:
            if seq - self.next <= WINDOW_FRAMES:  # a correct sender is never further ahead
                self._held.setdefault(seq, frames)
            return []
        out: list[Frame] = []
        self._accept(seq, frames, out)
        if not out:
            self.urgent = True  # seen: the ack was lost, say again where we are
        while self._held and (early := min(self._held)) <= self.next:
            self._accept(early, self._held.pop(early), out)
            self.urgent = True  # a gap was filled: the sender should stop repeating
        return out

    def _accept(self, seq: int, frames: Sequence[Frame], out: list[Frame]) -> None:
        new = frames[self.next - seq :]
        out.extend(new)
        self.next += len(new)

    def ack(self) -> int:
        """Give the number to acknowledge, and note that it was."""
        self.urgent = False
        self._acked = self.next
        return self.next
