"""Wall clocks of single processes, wrong and stepped while they run.

Only what Python reads as the wall clock is changed: time-outs, sleeps and monotonic clocks run on, and
libraries in C have the true time.
"""

from pathlib import Path

from harness.processes import ROOT

MINUTE, DAY = 60.0, 86_400.0  # s


class SteppedClock:
    """The wall clock of the processes that are started with `settings`. Made by the fixture `stepped_clock`.

    Args:
        file: says how far ahead it is; read at each look at the clock.
        seconds: how far it is ahead of the true time; negative: behind.
    """

    def __init__(self, file: Path, seconds: float = 0.0) -> None:
        self._file = file
        self.settings = {
            "STEPPED_CLOCK": str(file),
            "PYTHONPATH": f"{ROOT}/tests/harness/stepped:{ROOT}/deploy/local",
        }
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the clock that far ahead of the true time (not of what it showed before), at once."""
        new = self._file.with_suffix(".new")
        new.write_text(str(int(seconds * 1e9)))
        new.replace(self._file)
