"""Limits on what costs others something: token buckets, one or many. No clock here: `now` in seconds."""

from collections.abc import Hashable
from itertools import islice
from typing import NamedTuple

MOST = 16_384  # keys of which a table of buckets remembers how much they have used
ROUNDING = 1e-6  # s


class Limits(NamedTuple):
    """What one device, or one app, may take of an edge; 0: as much as it likes."""

    connects: float = 0.0  # of one id per second, over time
    per_app: int = 0  # devices connected at the same time
    silent_match: float = 0.0  # s without a payload, after which a match ends
    control: float = 0.0  # frames of a device per second, over time, that only ask for an answer


UNLIMITED = Limits()


class TokenBucket:
    """One bucket: `rate` tokens a second over time, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def acquire(self, now: float, tokens: float = 1.0) -> bool:
        """Use tokens; return False, and use none, if there are too few."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < tokens - ROUNDING:
            return False
        self._tokens -= tokens
        return True


class Buckets:
    """A bucket for each key. One that is full is not kept, nor more than `most` others: of more, those used
    longest ago are full again.

    Args:
        rate: tokens a second over time; 0: unlimited.
        burst: tokens at once, at least 1.
    """

    def __init__(self, rate: float, burst: float, most: int = MOST) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._burst = max(1.0, burst)
        self._most = most
        # key → when its bucket will be full; the one used last at the end
        self._full_at: dict[Hashable, float] = {}

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until there is a token; 0 if there is one."""
        seconds = self._full_at.get(key, now) - now - (self._burst - 1) * self._interval
        return seconds if seconds > ROUNDING else 0.0

    def take(self, key: Hashable, now: float, tokens: float = 1.0) -> None:
        """Take tokens, even if they are not there yet; at most a whole bucket is owed."""
        if not self._interval:
            return
        full_at = max(self._full_at.pop(key, now), now) + tokens * self._interval
        self._full_at[key] = min(full_at, now + 2 * self._burst * self._interval)
        for oldest in list(islice(self._full_at, 2)):  # so it shrinks faster than it grows
            if self._full_at[oldest] <= now or len(self._full_at) > self._most:
                del self._full_at[oldest]

    def __len__(self) -> int:
        return len(self._full_at)
