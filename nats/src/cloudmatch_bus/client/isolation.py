"""One fact that cannot be handled does not keep the others from being handled."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from prometheus_client import Counter

log = logging.getLogger("consumer")

_set_aside = Counter("cloudmatch_feed_set_aside", "Facts set aside because they could not be handled")

T = TypeVar("T")


class DownstreamError(Exception):
    """The handler's destination cannot be reached: deliver the same facts again, later."""


class Unhandled(NamedTuple):
    """A message that its reader could not handle."""

    position: int  # stream sequence
    subject: str
    payload: bytes
    reason: str


# Keeps a message for people to look at, and returns once it is safe.
SetAside = Callable[[Unhandled], Awaitable[None]]


async def handle_apart(
    facts: Sequence[T],
    handle: Callable[[list[T]], Awaitable[None]],
    unhandled: Callable[[T, str], Unhandled],
    set_aside: SetAside | None,
) -> None:
    """Pass facts to `handle`; if that raises, in halves, until those that it cannot handle are set aside.

    Args:
        unhandled: describes a fact with the reason.
        set_aside: None: a fact that cannot be handled is a bug, and raises.

    Raises:
        DownstreamError: it was raised by `handle` or `set_aside`; some facts may have been handled.
    """
    try:
        await handle(list(facts))
    except DownstreamError:
        raise
    except Exception as error:
        if set_aside is None:
            raise
        if len(facts) == 1:
            reason = f"{type(error).__name__}: {error}"
            await put_aside(unhandled(facts[0], reason), set_aside, error)
            return
        middle = len(facts) // 2
        for half in (facts[:middle], facts[middle:]):
            await handle_apart(half, handle, unhandled, set_aside)


async def put_aside(message: Unhandled, set_aside: SetAside, error: Exception | None = None) -> None:
    """Set a message aside, and say so.

    Raises:
        DownstreamError: that is not possible now.
    """
    try:
        await set_aside(message)
    except DownstreamError:
        raise
    except Exception:
        log.exception("fact at position %d cannot even be set aside", message.position)
    _set_aside.inc()
    text = "fact at position %d on %s set aside: %s"
    log.error(text, message.position, message.subject, message.reason, exc_info=error)
