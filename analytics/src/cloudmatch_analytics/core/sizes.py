"""One payload's size: read from an AMQP message, carried through Kafka.

A message of 2019 has only its body. It still counts: app `default`, device unknown (the empty id), time
of the AMQP timestamp or else of arrival. Without a ``message_id`` it cannot be told from its own
redelivery.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from cloudmatch_bus.contract.subjects import token

DEFAULT_APP = "default"
MAX_DIGITS = 15  # 10^15 bytes in one payload is no size, and sums must stay within 64 bits


class UnreadableError(ValueError):
    """The message is no size; the text says why."""


class Size(NamedTuple):
    """The size of one payload."""

    id: str | None  # the same at every redelivery, of no other payload
    key: str  # who sent the payload, as `key` names it
    bytes: int
    at: int  # ms since 1970


@lru_cache(100_000)
def key(app: str, device: str) -> str:
    """Name a sender, and its series of windows: ``<app>.<device>``, both as tokens; no device: unknown."""
    return f"{token(app)}.{token(device)}"


def _text(headers: Mapping[str, object], name: str) -> str:
    value = headers.get(name, "")
    if not isinstance(value, str):
        raise UnreadableError(f"header {name!r} is {type(value).__name__}, not text")
    return value


def read(
    body: bytes,
    headers: Mapping[str, object],
    message_id: str | None,
    timestamp: datetime | None,
    arrival: int,
) -> Size:
    """Read an AMQP message that arrived at `arrival` (ms since 1970).

    A time that lies after the arrival is a wrong clock's and becomes the arrival's, since the latest time
    seen closes windows for everyone.

    Raises:
        UnreadableError: the body is no non-negative ASCII decimal, or a header has the wrong type.
    """
    if not (body.isascii() and body.isdigit()):
        raise UnreadableError("the body is no ASCII decimal")
    if len(body) > MAX_DIGITS:
        raise UnreadableError(f"the body has more than {MAX_DIGITS} digits")
    said = headers.get("at", int(timestamp.timestamp() * 1000) if timestamp else None)
    if said is not None and (not isinstance(said, int) or isinstance(said, bool) or said < 0):
        raise UnreadableError("header 'at' is no time in ms since 1970")
    # ids begin again with a new EVENTS stream, times do not
    identity = f"{message_id}/{said}" if message_id else None
    app = _text(headers, "app") or DEFAULT_APP
    at = arrival if said is None else min(said, arrival)
    return Size(identity, key(app, _text(headers, "from")), int(body), at)
