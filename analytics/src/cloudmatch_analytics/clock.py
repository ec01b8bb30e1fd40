"""The clock of the service and the source's process: one for both, moved by no step of the wall clock."""

import logging
import time
from multiprocessing import get_context

from cloudmatch_analytics.core.steady_clock import SteadyClock
from cloudmatch_bus.process.clock import now_ms

log = logging.getLogger("clock")


def _boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # also counts while the machine sleeps


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


try:
    _boot_ms()
    elapsed_ms = _boot_ms
except (AttributeError, OSError):  # not on this system
    elapsed_ms = _monotonic_ms


class Clock:
    """Ms since 1970. Passed to the source's process when it starts, which alone compares it with others."""

    def __init__(self) -> None:
        # what to add to the monotonic clock, in memory that both processes share
        self._offset = get_context("spawn").RawValue("q", now_ms() - elapsed_ms())

    def now(self) -> int:
        """Return ms since 1970."""
        return elapsed_ms() + int(self._offset.value)

    def set_offset(self, offset: int) -> None:
        """Set what to add to the monotonic clock."""
        self._offset.value = offset

    @property
    def offset(self) -> int:
        """What to add to the monotonic clock."""
        return int(self._offset.value)


class ClockWatch:
    """Compares a clock with the wall clock and the times of messages, and says when they disagree."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steady = SteadyClock(clock.offset)

    def compare(self, newest: int | None) -> None:
        """Compare with the wall clock, and with the newest time in recent messages, if there were any."""
        step = self._steady.step
        believed = self._steady.follow(now_ms(), elapsed_ms(), newest)
        self._clock.set_offset(self._steady.offset)
        if believed:
            log.warning("clock set by %+.0f s: messages agree with the wall clock", step / 1000)
        elif step != self._steady.step and self._steady.step:
            log.warning(
                "wall clock off by %+.0f s: windows go on without it, unless messages agree for a minute",
                self._steady.step / 1000,
            )
        elif step and not self._steady.step:
            log.warning("wall clock right again")
