"""File descriptors: as many as the system grants, some of them kept for what the process itself opens."""

import contextlib
import os
import resource
import sys
from collections.abc import Callable

KEPT = 64  # for the bus, probes and files; of a limit below 256, a quarter


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one: many systems set it to 1,024, for select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # the system's own limit may be lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _lowest_free() -> int:
    """Return the lowest free number, the kernel's next: as many are in use, but for gaps."""
    number = os.dup(0)
    os.close(number)
    return number


class Descriptors:
    """How many file descriptors are in use, of how many; measured at each look, by three system calls.

    Args:
        limit: how many may be in use.
        lowest_free: the lowest free number; OSError if there is none.
    """

    def __init__(
        self, limit: Callable[[], int] = _limit, lowest_free: Callable[[], int] = _lowest_free
    ) -> None:
        self._limit, self._lowest_free = limit, lowest_free

    def _used(self) -> tuple[int, int, int]:
        """Return how many are in use, how many may be, and how many of those are kept."""
        limit = self._limit()
        try:
            used = self._lowest_free()
        except OSError:
            used = limit
        return used, limit, min(KEPT, limit // 4)

    @property
    def short(self) -> str | None:
        """Why nothing that can wait should take another one, or None."""
        used, limit, kept = self._used()
        return f"{used} of {limit} file descriptors are in use" if used >= limit - kept else None

    @property
    def plenty(self) -> bool:
        """Whether twice as many are free as are kept."""
        used, limit, kept = self._used()
        return used < limit - 2 * kept

    @property
    def last(self) -> bool:
        """Whether what is left is for the process itself: half of those that are kept."""
        used, limit, kept = self._used()
        return used >= limit - kept // 2
