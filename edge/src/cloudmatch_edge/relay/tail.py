"""What a receiving end has written lately: if the sending edge dies, nobody else knows these sizes.

A sending edge has a size stored within moments of the ack, or at the second attempt a second later. So only
what was delivered shortly before the last delivery can be uncounted. It costs one entry for each batch: its
number and its shape.

No clock here: `sweep` is called every `SWEEP` seconds.
"""

from collections import deque

from cloudmatch_bus.contract.payloads import sizes_of

SWEEP = 2.0  # s between two sweeps
QUIET_SWEEPS = 30  # without a delivery, after which the death of the sending edge would be known
TAIL_PAYLOADS = 16_384  # delivered and kept, about, at most


class Tail:
    """Batches of one direction, without a hole.

    What was delivered within `SWEEP` seconds before the last delivery is always kept.
    """

    def __init__(self, base: int) -> None:
        # (number of the first payload, shape or sizes)
        self.batches: deque[tuple[int, str | list[int]]] = deque()
        # how many payloads were delivered at the last sweep, and at the one before, that found more
        self._last = self._before = base
        self._quiet = 0  # sweeps that found no more

    def sweep(self, delivered: int, *, keep: bool) -> bool:
        """Forget what is old; return whether nothing is left.

        Args:
            delivered: all payloads before this number were.
            keep: nobody may have counted what is old: facts cannot be stored.
        """
        self._forget(delivered - TAIL_PAYLOADS)
        if keep:
            return False
        if delivered > self._last:
            self._quiet = 0
            self._forget(self._before)
            self._before, self._last = self._last, delivered
        else:
            self._quiet += 1
            if self._quiet >= QUIET_SWEEPS:
                self.take(delivered)
        return not self.batches

    def _forget(self, number: int) -> None:
        """Forget batches that end before `number`, except the last."""
        batches = self.batches
        while len(batches) > 1 and batches[1][0] <= number:
            batches.popleft()

    def take(self, delivered: int) -> tuple[int, list[int]]:
        """Remove all payloads before `delivered`; return the number of the first, and their sizes."""
        batches = self.batches
        first = batches[0][0] if batches else delivered
        taken: list[int] = []
        while batches and batches[0][0] < delivered:
            number, shape = batches.popleft()
            sizes = sizes_of(shape) if isinstance(shape, str) else shape
            wanted = delivered - number
            taken += sizes[:wanted]
            if len(sizes) > wanted:
                batches.appendleft((delivered, sizes[wanted:]))
        return first, taken
