"""Senders that are to be forgotten, and until when: what they sent before then is an unknown sender's.

Sizes may arrive long after the request to forget, so it is remembered for as long as they count: by digests,
as names are what is to be erased.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType

NOBODY: Mapping[str, int] = MappingProxyType({})


@lru_cache(100_000)
def digest(series: str) -> str:
    """Return what stands for the name of a series that is not to be kept."""
    return blake2b(series.encode(), digest_size=16).hexdigest()


def unknown(series: str) -> str:
    """Name the series of the unknown senders of the same app."""
    return series.partition(".")[0] + "."


class Forgotten:
    """Who is forgotten.

    Args:
        until: ms since 1970, by the digest of the sender's series.
    """

    def __init__(self, until: Mapping[str, int] = NOBODY) -> None:
        self.until = dict(until)
        self._last = max(until.values(), default=-1)

    def add(self, series: str, until: int) -> None:
        """Forget a sender in slices that begin up to `until`."""
        key = digest(series)
        self.until[key] = max(until, self.until.get(key, 0))
        self._last = max(until, self._last)

    def expire(self, oldest: int) -> None:
        """Drop what concerns only slices before `oldest`, in which nothing counts any more."""
        if self.until and min(self.until.values()) < oldest:
            self.until = {key: until for key, until in self.until.items() if until >= oldest}

    def renamed(self, start: int, sent: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
        """Return what was sent in a slice, of forgotten senders as of an unknown one."""
        if start > self._last:
            return sent
        found: dict[str, tuple[int, int]] = {}
        for series, (amount, messages) in sent.items():
            name = unknown(series) if start <= self.until.get(digest(series), -1) else series
            known = found.get(name, (0, 0))
            found[name] = known[0] + amount, known[1] + messages
        return found
