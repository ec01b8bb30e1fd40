"""Wall clocks of single processes, wrong and stepped while they run, by libfaketime (Debian: `faketime`).

Only the wall clock is changed: time-outs, sleeps and monotonic clocks run on. The NATS server, which asks the
kernel itself, is not affected.
"""

from pathlib import Path

from harness.processes import ROOT

MISSING = "libfaketime is not installed: apt install faketime"
_LIBRARY = "faketime/libfaketimeMT.so.1"
_FOLDERS = ("/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib")

MINUTE, DAY = 60.0, 86_400.0  # s


def libfaketime() -> Path | None:
    """The library that changes the clock; None where it is not installed."""
    return next((path for folder in _FOLDERS if (path := Path(folder, _LIBRARY)).exists()), None)


class SteppedClock:
    """The wall clock of the processes that are started with `settings`. Made by the fixture `stepped_clock`.

    Args:
        seconds: how far it is ahead of the true time; negative: behind.
    """

    def __init__(self, file: Path, library: Path, seconds: float = 0.0) -> None:
        self._file = file
        self.settings = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": f"{ROOT}/tests/harness/stepped:{ROOT}/deploy/local",
            "NO_FAKE_STAT": "1",  # files keep the true time, as those of another machine's disk
        }
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the clock that far ahead of the true time (not of what it showed before), at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        new.replace(self._file)
