"""The time as messages carry it: whole ms or µs since 1970."""

import time


def now_ms() -> int:
    """Give ms since 1970."""
    return time.time_ns() // 1_000_000


def now_us() -> int:
    """Give µs since 1970."""
    return time.time_ns() // 1000
