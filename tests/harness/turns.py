"""CPU time of single turns of a service's event loop."""

import time
from pathlib import Path

from harness.processes import ROOT


class Turns:
    """The turns of the service that is started with `settings`; only those of 5 ms and more are known."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._since = 0.0
        self.settings = {
            "TURNS_FILE": str(file),
            "PYTHONPATH": f"{ROOT}/tests/harness/timed:{ROOT}/deploy/local",
        }

    def restart(self) -> None:
        """Forget all turns so far."""
        self._since = time.monotonic()

    @property
    def longest(self) -> float:
        """CPU time of the longest turn since the last restart, in s; 0.005 stands for anything below."""
        turns = [0.005]
        for line in self._file.read_text().splitlines() if self._file.exists() else ():
            at, _, cpu = line.partition(" ")
            if float(at) > self._since and cpu:
                turns.append(float(cpu))
        return max(turns)
