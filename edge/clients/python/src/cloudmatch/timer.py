"""A timer on asyncio."""

import asyncio
from collections.abc import Callable


class Timer:
    """Calls back at a deadline, or earlier: a deadline that moves back does not reset the timer."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        # a plain handle: uvloop returns one without a time for a call that is due at once
        self._handle: asyncio.Handle | None = None
        self._at = 0.0

    def set(self, deadline: float | None) -> None:
        """Set the deadline, in the loop's time; None cancels the timer."""
        if self._handle is not None:
            if deadline is not None and self._at <= deadline:
                return  # the callback sets the timer again
            self.cancel()
        if deadline is not None:
            self._handle = asyncio.get_running_loop().call_at(deadline, self._fire)
            self._at = deadline

    def cancel(self) -> None:
        """Cancel the timer, if it is set."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._callback()
