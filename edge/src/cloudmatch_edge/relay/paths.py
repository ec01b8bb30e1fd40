"""By which subject the frames of one device travel to a worker: the main one, or a way around it.

The main path is the device's own partition. When nobody serves it, NATS says so at once (503) and the
fallback, which every worker serves, is taken. When a worker is frozen, or gone unseen, nobody says
anything: its subscriptions stand, and within its queue groups NATS may even prefer it, because it is near.
Only silence tells. Then the ways around are tried in turn: the fallback, and partitions of other devices,
each of which some worker serves alone. Any worker can pass on any frame.

No clock here: `now` arrives with the event, in seconds.
"""

MAIN, FALLBACK = 0, 1
DETOURS = (2, 3, 4, 5, 6, 7)  # the partitions of other devices
AROUND = (FALLBACK, *DETOURS)
HOLD = 0.5  # s for which a way around is taken before the main path is tried again
HOLD_MAX = 4.0  # s, after the main path has failed again and again


class Paths:
    """The paths of one direction of a match."""

    def __init__(self) -> None:
        self._path = FALLBACK  # the way around that is or was taken last
        self._until = float("-inf")  # when the main path is tried again
        self._hold = HOLD

    def at(self, now: float) -> int:
        """Give the path that frames take now."""
        return self._path if now < self._until else MAIN

    def refused(self, path: int, now: float) -> bool:
        """Learn that nobody listens there; tell whether another path is left."""
        if path == FALLBACK:
            return False
        self._path = FALLBACK
        self._until = now + HOLD
        return True

    def silent(self, path: int, now: float) -> None:
        """Learn that nothing came of what was sent by `path`; the way around changes if it was one."""
        if path != MAIN:
            self._path = AROUND[AROUND.index(path) + 1 - len(AROUND)]
        self._until = now + self._hold
        if path == MAIN:
            self._hold = min(2 * self._hold, HOLD_MAX)

    def worked(self, path: int) -> None:
        """Learn that something sent by `path` has arrived."""
        if path == MAIN:
            self._hold = HOLD
        else:
            self._path = path
