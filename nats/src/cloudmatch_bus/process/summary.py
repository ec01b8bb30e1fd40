"""Log what may happen thousands of times a second: at once if it is rare, else how often it happened."""

import asyncio
import logging

INTERVAL = 10.0  # s between two lines


class Summary:
    """One kind of event.

    Args:
        log: where to log it.
        text: what happened, in the words of a log line: ``requests not finished``.
        level: of the lines.
    """

    def __init__(self, log: logging.Logger, text: str, level: int = logging.WARNING) -> None:
        self._log = log
        self._text = text
        self._level = level
        self._count = 0
        self._last: object = ""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, last: object) -> None:
        """Note that it happened once more. `last`: to whom, and why; the latest is logged."""
        self._count += 1
        self._last = last
        if self._timer is None:
            self._report()

    def _report(self) -> None:
        self._timer = None
        if self._count:
            self._log.log(self._level, "%s: %d, last %s", self._text, self._count, self._last)
            self._count = 0
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._report)
