"""Which worker serves which partition, decided by every worker for itself.

Rendezvous hashing over the workers counted as alive: no leader, no lease, no agreement. While two workers
disagree, both serve a partition (they share a queue group, so each message goes to one of them) or none
does (then edges learn that there are no responders and use the fallback that every worker serves). Neither
loses a payload: edges number, acknowledge and retransmit.
"""

from collections.abc import Iterable
from hashlib import blake2b

from cloudmatch_bus.contract.liveness import STALLED_AFTER, WORKER_DEAD_AFTER


def owner(partition: int, workers: Iterable[str]) -> str:
    """Name the worker that serves a partition; equal sets of workers give equal answers."""
    return max(workers, key=lambda worker: (_weight(partition, worker), worker))


def _weight(partition: int, worker: str) -> bytes:
    return blake2b(f"{partition}:{worker}".encode(), digest_size=8).digest()


class Membership:
    """The workers that one worker counts as alive; always including itself. `now` in seconds."""

    def __init__(self, me: str, now: float) -> None:
        self.me = me
        # worker → time of its last heartbeat
        self._last_seen = {me: now}
        self._checked = now  # when we last checked

    @property
    def workers(self) -> frozenset[str]:
        """The workers counted as alive."""
        return frozenset(self._last_seen)

    def on_heartbeat(self, worker: str, now: float) -> None:
        """Count a worker as alive."""
        self._last_seen[worker] = now

    def on_leave(self, worker: str) -> None:
        """Remove a worker that announced its end."""
        if worker != self.me:
            self._last_seen.pop(worker, None)

    def check(self, now: float, connected: bool) -> None:
        """Remove workers that were silent for too long; call between heartbeats.

        After a stall or while disconnected all timers restart: we could not have received anything.
        """
        stalled = now - self._checked > STALLED_AFTER or not connected
        self._checked = now
        self._last_seen[self.me] = now
        if stalled:
            self._last_seen = dict.fromkeys(self._last_seen, now)
        else:
            self._last_seen = {w: at for w, at in self._last_seen.items() if now - at <= WORKER_DEAD_AFTER}

    def owned(self, partitions: int) -> set[int]:
        """Return the partitions that this worker serves."""
        workers = self._last_seen.keys()
        return {p for p in range(partitions) if owner(p, workers) == self.me}
