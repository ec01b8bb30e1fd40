"""Lines of the log: one for each event, whatever is in it, of bounded length, and no flood of the same kind.

What devices, peers and producers send is in many of them: an id must not begin a line of its own, control a
terminal, or fill a disk.
"""

import logging
import time
from collections.abc import Callable

from cloudmatch_bus.contract.printable import printable

LONGEST = 4096  # bytes of a line, about
LONGEST_TRACE = 16 * 1024  # bytes of a traceback, about
INDENT = "    "  # before each line of a traceback: none of these is an event
MOST = 20  # lines of one kind in an interval
INTERVAL = 10.0  # s
MAX_KINDS = 1000  # about which something is remembered


def shortened(text: str, most: int) -> str:
    """Cut a text that has more than `most` bytes, and say how many it had."""
    if 4 * len(text) <= most or len(encoded := text.encode(errors="replace")) <= most:
        return text
    return f"{encoded[:most].decode(errors='ignore')}… {len(encoded)} bytes"


def _line(text: str) -> str:
    return shortened(printable(shortened(text, LONGEST)), LONGEST)


class LineFormatter(logging.Formatter):
    """Formats an event as one line; a traceback follows in indented ones."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # as in the library
        """Format the line."""
        return _line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 # as in the library
        """Format the traceback; of a long one the end remains, where the error is."""
        lines = super().formatException(ei)[-LONGEST_TRACE:].split("\n")  # type: ignore[arg-type] # as it is
        return "\n".join([INDENT + _line(line) for line in lines])


class Brake(logging.Filter):
    """Lets `MOST` lines of a kind pass in an interval: of one logger, with one format."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}  # when the interval began, and lines since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line passes; the last one says that more may follow, the next how many did."""
        if record.levelno <= logging.DEBUG:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        began, lines = self._kinds.get(kind, (now, 0))
        if now >= began + INTERVAL:
            if lines > MOST:
                _append(record, f"{lines - MOST} lines like this one were not logged")
            began, lines = now, 0
            self._kinds.pop(kind)
        if lines + 1 == MOST:
            _append(record, f"for {INTERVAL:.0f} s no more lines like this one are logged")
        if len(self._kinds) >= MAX_KINDS and kind not in self._kinds:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = began, lines + 1
        return lines < MOST


def _append(record: logging.LogRecord, text: str) -> None:
    record.msg, record.args = f"{record.getMessage()} ({text})", ()
