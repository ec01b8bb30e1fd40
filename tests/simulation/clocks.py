"""Wall clocks of processes: wrong, and stepped while they run; and what must hold whatever they show."""

import random
from collections.abc import Callable

from cloudmatch_bus.contract.messages import decode_device, decode_tombstone
from cloudmatch_match_engine.core.keys import DEVICE
from cloudmatch_match_engine.pairing.unpairing import EXPIRED
from simulation.bucket import MemoryBucket

OFFSETS = (0.0, 2.0, -2.0, 45.0, -45.0, 600.0, -600.0, 172_800.0, -172_800.0)  # s
BEGAN = 1_700_000_000.0  # s since 1970, when a world begins


class WrongClock:
    """The wall clock of one process. `now`: the true time, s since the world began."""

    def __init__(self, chance: random.Random, now: Callable[[], float]) -> None:
        self._chance, self._now = chance, now
        self.step()

    def step(self) -> None:
        """Set it to another time."""
        self._offset = self._chance.choice(OFFSETS)

    def time(self) -> float:
        """Seconds since 1970, as this clock shows them."""
        return BEGAN + self._now() + self._offset

    def ms(self) -> int:
        """The same in ms."""
        return int(self.time() * 1000)


class GraceChecker:
    """No device is removed before its grace is over. `now`: the true time, s."""

    def __init__(self, bucket: MemoryBucket, now: Callable[[], float]) -> None:
        self._bucket, self._now = bucket, now
        self._seen = 0  # entries of the bucket's log
        self._ends: dict[str, float] = {}  # by key: when the grace of a disconnected device is over

    def check(self) -> None:
        """Check the entries written since."""
        for entry in self._bucket.log[self._seen :]:
            if entry.key.startswith(DEVICE):
                record = decode_device(entry.value) if entry.value is not None else None
                if record is not None and record.disconnected_at is not None:
                    self._ends.setdefault(entry.key, self._now() + record.grace)
                    continue
                end = self._ends.pop(entry.key, 0.0)
                if record is None and entry.tombstone and decode_tombstone(entry.tombstone).reason == EXPIRED:
                    assert self._now() >= end, f"{entry.key} is removed {end - self._now():.1f} s early"
        self._seen = len(self._bucket.log)
