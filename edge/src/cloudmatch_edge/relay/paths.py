"""The subject by which a device's batches travel to a worker: the main path, or a way around it.

The main path is the device's own partition. When nobody serves it, NATS reports so at once (503), and batches
take the fallback, which every worker serves. A frozen worker, or one that died unnoticed, causes no report:
its subscriptions stand, and NATS may even prefer it within a queue group, because it is near. Only missing
acks show it. Then the alternatives are tried in turn: the fallback, and detours: partitions of other devices,
each served by one worker alone. Any worker can forward any batch.

No clock here: `now` arrives with the event, in seconds.
"""

MAIN, FALLBACK = 0, 1
DETOURS = (2, 3, 4, 5, 6, 7)  # the partitions of other devices
ALTERNATIVES = (FALLBACK, *DETOURS)
HOLD = 0.5  # s for which an alternative is taken before the main path is tried again
HOLD_MAX = 4.0  # s, after repeated failures of the main path


class Paths:
    """The paths of one direction of a match."""

    def __init__(self) -> None:
        self._alternative = FALLBACK  # that is or was taken last
        self._until = float("-inf")  # when the main path is tried again
        self._hold = HOLD

    def at(self, now: float) -> int:
        """Return the path to take now."""
        return self._alternative if now < self._until else MAIN

    def no_responders(self, path: int, now: float) -> bool:
        """Account for a path without subscribers; return whether another one is left."""
        if path == FALLBACK:
            return False
        self._alternative = FALLBACK
        self._until = now + HOLD
        return True

    def timed_out(self, path: int, now: float) -> None:
        """Account for a batch by `path` without an ack: take an alternative, or the next one."""
        if path != MAIN:
            self._alternative = ALTERNATIVES[ALTERNATIVES.index(path) + 1 - len(ALTERNATIVES)]
        self._until = now + self._hold
        if path == MAIN:
            self._hold = min(2 * self._hold, HOLD_MAX)

    def acknowledged(self, path: int) -> None:
        """Account for an ack of a batch by `path`."""
        if path == MAIN:
            self._hold = HOLD
        else:
            self._alternative = path
