"""The wall clock in the units of messages: whole ms or µs since 1970."""

import time


def now_ms() -> int:
    """Return ms since 1970."""
    return time.time_ns() // 1_000_000


def now_us() -> int:
    """Return µs since 1970."""
    return time.time_ns() // 1000
