"""What a heartbeat says of its process: version and CPU time."""

import importlib.metadata
import time
from collections.abc import Callable


def version_of(distribution: str) -> str:
    """Return the version of a distribution; "" if it is not installed. Reads files: call it once."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


class CpuLoad:
    """CPU time of this process between two measurements.

    Args:
        cpu: CPU time of the process in s, of all its threads.
        clock: s, monotonic.
    """

    def __init__(
        self, cpu: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.share = 0.0  # of one core, between the last two measurements
        self._cpu, self._clock = cpu, clock
        self._used, self._at = cpu(), clock()

    def measure(self) -> float:
        """Return the share of one core since the last measurement; takes a µs or two."""
        used, at = self._cpu(), self._clock()
        if at > self._at:
            self.share = round((used - self._used) / (at - self._at), 3)
            self._used, self._at = used, at
        return self.share
