"""A size that a reader of RabbitMQ rejected: what it was, and why it lies where it lies."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

# what RabbitMQ adds to a message that it moves to the dead letters
DEATH = "x-death"
_ADDED = (DEATH, "x-first-death-", "x-last-death-")

SHOWN = 40  # bytes of a body


class Letter(NamedTuple):
    """A dead letter, as a person is shown it. What it does not have is empty."""

    message_id: str
    routing_key: str
    body: str
    sender: str
    receiver: str
    reason: str
    died_at: datetime | None
    deaths: int  # how often it was rejected


def letter(
    message_id: str | None, routing_key: str | None, body: bytes, headers: Mapping[str, Any]
) -> Letter:
    """Read a message of the dead letters' queue."""
    history = headers.get(DEATH) or [{}]
    newest = history[0]
    died_at = newest.get("time")
    return Letter(
        message_id=message_id or "",
        routing_key=routing_key or "",
        body=_text(body),
        sender=str(headers.get("from", "")),
        receiver=str(headers.get("to", "")),
        reason=str(newest.get("reason", "")),
        died_at=died_at if isinstance(died_at, datetime) else None,
        deaths=sum(int(each.get("count", 1)) for each in history if each),
    )


def original(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Give the headers that the message had before it died."""
    return {name: value for name, value in headers.items() if not name.startswith(_ADDED)}


def _text(body: bytes) -> str:
    """A body as text that can play no tricks with a terminal; cut where it is long."""
    text = repr(body[:SHOWN])[2:-1]
    return text if len(body) <= SHOWN else f"{text}… {len(body)} bytes"
