"""Which worker serves which partition, decided by every worker for itself.

Rendezvous hashing over the workers believed alive: no leader, no lease, no agreement. While two workers
disagree, both serve a partition (they share a queue group, so each message goes to one of them) or none
does (then edges are told so and take the fallback that every worker serves). Neither loses a payload:
the edges number, acknowledge and repeat.
"""

from collections.abc import Iterable
from hashlib import blake2b

from cloudmatch_bus.contract.liveness import STALLED_AFTER, WORKER_DEAD_AFTER


def owner(partition: int, workers: Iterable[str]) -> str:
    """Name the worker that serves a partition: the same for all who know the same workers."""
    return max(workers, key=lambda worker: (_weight(partition, worker), worker))


def _weight(partition: int, worker: str) -> bytes:
    return blake2b(f"{partition}:{worker}".encode(), digest_size=8).digest()


class Roll:
    """The workers that one worker believes alive; itself always. `now` in seconds."""

    def __init__(self, me: str, now: float) -> None:
        self.me = me
        self._heard = {me: now}  # worker → when last heard
        self._beat = now  # when we last beat

    @property
    def workers(self) -> frozenset[str]:
        """Those believed alive."""
        return frozenset(self._heard)

    def heard(self, worker: str, now: float) -> None:
        """A worker gave a sign of life."""
        self._heard[worker] = now

    def gone(self, worker: str) -> None:
        """A worker said that it leaves."""
        if worker != self.me:
            self._heard.pop(worker, None)

    def beat(self, now: float, connected: bool) -> None:
        """Beat, and count out those that were silent for too long.

        One that was itself frozen or cut off has heard nobody, through no fault of theirs: it begins to
        count anew.
        """
        stalled = now - self._beat > STALLED_AFTER or not connected
        self._beat = now
        self._heard[self.me] = now
        if stalled:
            self._heard = dict.fromkeys(self._heard, now)
        else:
            self._heard = {w: at for w, at in self._heard.items() if now - at <= WORKER_DEAD_AFTER}

    def owned(self, partitions: int) -> set[int]:
        """Give the partitions that fall to us."""
        workers = self._heard.keys()
        return {p for p in range(partitions) if owner(p, workers) == self.me}
