"""A dead letter: a message that a consumer rejected, or a fact that was set aside, as RabbitMQ keeps it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cloudmatch_bus.contract import amqp, amqp_set_aside
from cloudmatch_bus.contract.printable import printable

DEATH = "x-death"
# headers that RabbitMQ adds when it moves a message to the dead-letter queue
_ADDED = (DEATH, "x-first-death-", "x-last-death-")

SHOWN = 40  # bytes of a body
LONGEST = 1000  # characters of anything else


class DeadLetter(NamedTuple):
    """A dead letter, ready to be shown. Missing values are empty."""

    message_id: str
    routing_key: str
    body: str
    sender: str
    receiver: str
    reason: str
    died_at: datetime | None
    deaths: int  # how often it was rejected

    @classmethod
    def parse(
        cls, message_id: str | None, routing_key: str | None, body: bytes, headers: Mapping[str, Any]
    ) -> "DeadLetter":
        """Parse a message of the dead-letter queue, however malformed."""
        found = headers.get(DEATH)
        history = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        newest = history[0] if history else {}
        died_at = newest.get("time")
        if amqp_set_aside.CONSUMER in headers:
            return cls._set_aside(body, headers)
        return cls(
            message_id=_shown(message_id or ""),
            routing_key=_shown(routing_key or ""),
            body=_printable(body),
            sender=_shown(headers.get(amqp.SENDER, "")),
            receiver=_shown(headers.get(amqp.RECEIVER, "")),
            reason=_shown(newest.get("reason", "")),
            died_at=died_at if isinstance(died_at, datetime) else None,
            deaths=sum(count for each in history if isinstance(count := each.get("count", 1), int)),
        )

    @classmethod
    def _set_aside(cls, body: bytes, headers: Mapping[str, Any]) -> "DeadLetter":
        at = headers.get(amqp_set_aside.AT)
        return cls(
            message_id=_shown(headers.get(amqp_set_aside.POSITION, "")),
            routing_key=_shown(headers.get(amqp_set_aside.SUBJECT, "")),
            body=_printable(body),
            sender="",
            receiver="",
            reason=_shown(headers.get(amqp_set_aside.REASON, "")),
            died_at=datetime.fromtimestamp(at / 1000, UTC)
            if isinstance(at, int) and 0 <= at < amqp.MAX_TIME
            else None,
            deaths=1,
        )


def original_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that the message was published with."""
    return {name: value for name, value in headers.items() if not name.startswith(_ADDED)}


def _shown(value: object) -> str:
    """Escape a text, or whatever is in its place, so that it cannot control a terminal."""
    return printable(str(value)[:LONGEST])


def _printable(body: bytes) -> str:
    """Escape a body, so that it cannot control a terminal; shorten a long one."""
    text = repr(body[:SHOWN])[2:-1]
    return text if len(body) <= SHOWN else f"{text}… {len(body)} bytes"
