"""A few sockets in each turn of the event loop.

Were thousands of sockets that come or go at once handled in one turn, or all that one of them has sent, no
heartbeat would be sent and no probe answered for seconds: the edge would count as dead.
"""

import asyncio
from collections import deque
from collections.abc import Callable

PER_TURN = 16


class Turns:
    """Does things in order: at once while there are few, else a few in each turn."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._left = PER_TURN  # in this turn
        self._scheduled = False

    def __call__(self, work: Callable[[], object]) -> None:
        """Do something, now or in a later turn."""
        self._schedule()
        if self._waiting or not self._left:
            self._waiting.append(work)
            return
        self._left -= 1
        work()

    def later(self, work: Callable[[], object]) -> None:
        """Do something in a later turn: its share of this one is used up."""
        self._schedule()
        self._waiting.append(work)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if not self._waiting:
            self._left = PER_TURN
            self._scheduled = False
            return
        asyncio.get_running_loop().call_soon(self._next)
        now = min(len(self._waiting), PER_TURN)  # not what these add
        self._left = PER_TURN - now
        for _ in range(now):
            self._waiting.popleft()()
