"""An event loop whose time jumps to whatever is due next."""

import asyncio
import selectors
from typing import Any


class _Jump(selectors.SelectSelector):
    """Advances the loop's clock instead of waiting; there are no sockets to wait for."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "every task waits for another"
        self.loop.jumped += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time starts at 0 and passes only where all tasks wait."""

    def __init__(self) -> None:
        selector = _Jump()
        super().__init__(selector)
        selector.loop = self
        self.jumped = 0.0

    def time(self) -> float:
        return getattr(self, "jumped", 0.0)

    def monotonic(self) -> float:
        """As of the module `time`, which this loop replaces: s."""
        return self.time()

    def time_ns(self) -> int:
        """As of the module `time`, which this loop replaces: ns since 1970."""
        return 1_700_000_000 * 10**9 + int(self.time() * 1e9)
