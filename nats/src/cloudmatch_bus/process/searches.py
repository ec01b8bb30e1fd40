"""Requests that cost much: done in threads, a few at a time, so that the event loop goes on."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from litestar.exceptions import ServiceUnavailableException

AT_ONCE = 2
WAITING = 16  # beyond those: what comes then is refused
RETRY_AFTER = 1  # s

T = TypeVar("T")


def busy(detail: str) -> ServiceUnavailableException:
    """Make the error of a request that is to come again."""
    return ServiceUnavailableException(detail, headers={"Retry-After": str(RETRY_AFTER)})


class Searches:
    """Searches of one service."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._room = at_once + waiting
        self._turn = asyncio.Semaphore(at_once)

    async def run(self, search: Callable[[], T]) -> T:
        """Return the result of `search`, called in a thread when it is its turn.

        Raises:
            ServiceUnavailableException: too many wait.
        """
        if not self._room:
            raise busy("too many searches wait: ask again later")
        self._room -= 1
        try:
            async with self._turn:
                return await asyncio.to_thread(search)
        finally:
            self._room += 1
