"""A table that fills itself, for what is asked for again and again."""

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """What `make` gives for a key; for `most` keys it is asked once only. A look costs less than a call."""

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self._make = make
        self._most = most

    def __missing__(self, key: K) -> V:
        made = self._make(key)
        if len(self) < self._most:
            self[key] = made
        return made
