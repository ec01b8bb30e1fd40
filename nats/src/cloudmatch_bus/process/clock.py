"""The wall clock in the units of messages, whole ms or µs since 1970, and one that never jumps."""

import time


def now_ms() -> int:
    """Return ms since 1970."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Return seconds; only differences mean anything.

    Time while the process was frozen is noticed at once; an event loop's clock may stand until its next turn.
    """
    return time.monotonic()


def now_us() -> int:
    """Return µs since 1970."""
    return time.time_ns() // 1000
