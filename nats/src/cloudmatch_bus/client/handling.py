"""What all readers of EVENTS do with what they have read."""

import asyncio
import contextlib
import logging

from prometheus_client import Counter

from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_bus.contract.claims import fact_on
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_bus.contract.unreadable import UNREADABLE

log = logging.getLogger("consumer")

BACKOFF = (0.5, 1.0, 2.0, 5.0)  # s before the same facts are handled again, by failures in a row
SHOWN = 200  # characters of what others have sent that a line of the log shows

# The metrics keep the name of the first reader.
facts_read = Counter("cloudmatch_feed_facts", "Facts handled and acknowledged")
_undecodable = Counter("cloudmatch_feed_undecodable", "Messages in EVENTS that are no facts; dropped")


def decode(subject: str, payload: bytes) -> AnyFact | str:
    """Decode a message; return why it is no fact if it is none."""
    if not subject.isascii():  # as tokens are; what cannot be read of it has been replaced
        return "its subject is none of ours"
    try:
        return fact_on(subject, payload)
    except UNREADABLE as error:
        return str(error)


def dropped(position: int, subject: str, reason: str) -> None:
    """Name and count a message that is no fact."""
    log.error("message dropped at position %d on %s: %s", position, subject[:SHOWN], reason[:SHOWN])
    _undecodable.inc()


class Failures:
    """Failures of a handler, in a row."""

    def __init__(self) -> None:
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def problem(self) -> str | None:
        """Return that the handler fails, or None."""
        return f"downstream failed {self._count} times in a row" if self._count else None

    def failed(self, facts: int, error: DownstreamError) -> float:
        """Count a failure; return the pause after it, in s."""
        pause = BACKOFF[min(self._count, len(BACKOFF) - 1)]
        self._count += 1
        log.warning("downstream failed, retrying %d facts in %.1f s: %s", facts, pause, error)
        return pause

    def end(self) -> None:
        """The handler has succeeded."""
        self._count = 0


async def wait(stop: asyncio.Event, pause: float) -> None:
    """Wait for `pause` s, or until `stop`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), pause)
