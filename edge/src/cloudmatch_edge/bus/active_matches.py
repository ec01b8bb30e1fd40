"""The matches of one edge: their timers, and the messages that other edges send them."""

import asyncio
import random

from prometheus_client import Histogram

from cloudmatch_bus.contract.liveness import STALLED_AFTER
from cloudmatch_bus.process.clock import monotonic
from cloudmatch_edge.bus.ack_router import LINGER, AckRouter
from cloudmatch_edge.bus.counting import Counting
from cloudmatch_edge.relay.match import Match
from cloudmatch_edge.relay.receiver import ACK_DELAY
from cloudmatch_edge.relay.tail import SWEEP

PEER_VERIFIED_AFTER = 8.0  # s for which a peer is away, before that is verified
TICK = 0.05  # s between two ticks of a match
SILENCE_CHECKS = 4  # of a match, within the time that it may be silent

_lag = Histogram(
    "cloudmatch_edge_loop_lag_seconds",
    "By how much a timer of the event loop was late, every 50 ms: all else waits that long, too",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)


class ActiveMatches:
    """The matches of one edge.

    Args:
        patience: s without progress of its peer after which a device is closed.
        counting: flushed after matches have reported sizes.
        silent_match: s without a payload after which a match ends; 0: never.
    """

    def __init__(
        self, router: AckRouter, patience: float, counting: Counting, silent_match: float = 0.0
    ) -> None:
        self._router = router
        self._patience = patience
        self._silent_match = silent_match
        self._all: dict[Match, None] = {}  # if silence ends them
        self._counting = counting
        self._loop = asyncio.get_running_loop()
        # matches of which something may become overdue; a dict, for its order
        self._watched: dict[Match, None] = {}
        # matches that remember what they have received lately
        self._remembering: dict[Match, None] = {}
        # matches whose peers are away, until that is next verified
        self._awaiting: set[Match] = set()
        # matches that owe acks or sizes
        self._unsettled: dict[Match, None] = {}
        self._ticked_at = monotonic()
        self._sweep_at = self._ticked_at + SWEEP
        self._silence_at = self._ticked_at

    def add(self, match: Match) -> None:
        """Route acks and positions to a match."""
        self._router.add(match)
        if self._silent_match:
            self._all[match] = None

    def earlier(self, prefix: str, connection_id: int) -> Match | None:
        """Return the same match on an earlier connection of its device, if that was on this edge."""
        return self._router.find(prefix, connection_id)

    def remove(self, match: Match) -> None:
        """Stop routing to a match."""
        self._watched.pop(match, None)
        self._all.pop(match, None)
        self._router.remove(match)

    def linger(self, match: Match) -> None:
        """Keep routing for a few seconds, then close a match."""
        self._loop.call_later(LINGER, match.close)

    def await_peer(self, match: Match) -> None:
        """Verify with growing pauses that a match's peer is still away: the update that it is back is sent
        once, and may be lost."""
        if match not in self._awaiting:
            self._awaiting.add(match)
            self._verify_later(match, PEER_VERIFIED_AFTER)

    def _verify_later(self, match: Match, pause: float) -> None:
        spread = pause * random.uniform(0.75, 1.25)  # noqa: S311  # many wait for devices of one edge
        self._loop.call_later(spread, self._verify_peer, match, pause)

    def _verify_peer(self, match: Match, pause: float) -> None:
        if match.awaits_peer:
            match.verify_peer()
            self._verify_later(match, 2 * pause)
        else:
            self._awaiting.discard(match)

    def remember(self, match: Match) -> None:
        """Sweep a match until it remembers nothing."""
        self._remembering[match] = None

    def _sweep(self) -> None:
        keep = self._counting.stuck
        for match in list(self._remembering):
            if match.sweep(keep=keep):
                del self._remembering[match]

    def watch(self, match: Match) -> None:
        """Tick a match until it is idle."""
        self._watched[match] = None

    def settle_soon(self, match: Match) -> None:
        """Have a match send acks and sizes within a few ms."""
        if not self._unsettled:
            self._loop.call_later(ACK_DELAY, self.settle)
        self._unsettled[match] = None

    def settle(self) -> None:
        """Have all matches send what they owe."""
        matches, self._unsettled = self._unsettled, {}
        for match in matches:
            match.settle()
        self._counting.flush()

    @property
    def sizes_pending(self) -> int:
        """How many sizes matches have yet to report."""
        return sum(match.outbound.sender.sizes_pending for match in self._unsettled)

    @property
    def draining(self) -> bool:
        """Whether payloads are undelivered, or a handover is not done."""
        return any(match.sending or not match.handover.done for match in self._watched)

    def tick(self) -> None:
        """Tick all watched matches, now and every `TICK` seconds."""
        now = monotonic()
        stalled = now - self._ticked_at > STALLED_AFTER
        _lag.observe(max(0.0, now - self._ticked_at - TICK))
        self._ticked_at = now
        for match in list(self._watched):
            if stalled:
                match.outbound.excuse(now)
            match.tick(now, self._patience)
            if match.idle:
                self._watched.pop(match, None)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP
            self._sweep()
        if self._silent_match and now >= self._silence_at:
            self._silence_at = now + self._silent_match / SILENCE_CHECKS
            for match in list(self._all):
                match.check_silence(now, self._silent_match)
        self._counting.flush()
        self._loop.call_later(TICK, self.tick)
