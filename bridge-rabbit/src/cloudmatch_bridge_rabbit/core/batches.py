"""The message that a fact becomes for analytics: its own bytes, if it is one or names a device to forget."""

from collections.abc import Iterator
from typing import NamedTuple

from cloudmatch_bridge_rabbit.core import frames
from cloudmatch_bridge_rabbit.core.identity import identity
from cloudmatch_bridge_rabbit.core.sizes import spans
from cloudmatch_bus.contract import amqp_batches, amqp_forgotten, amqp_names
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesCounted,
    DeviceForgotten,
    encode,
)

SOURCE = "bridge-rabbit"  # of a batch that was a fact of another kind, which has no number

_FLAGS = frames.flags(frames.CONTENT_TYPE | frames.DELIVERY_MODE | frames.MESSAGE_ID)
_BEFORE_ID = _FLAGS + frames.short_text(amqp_batches.CONTENT_TYPE) + frames.PERSISTENT


class Batch(NamedTuple):
    """A message on the exchange of batches, or on another one."""

    id: str  # of the fact
    app: str
    body: bytes  # JSON of a `DeliveriesCounted`
    exchange: str = amqp_batches.EXCHANGE


def batch(position: int, fact: AnyFact, payload: bytes) -> Batch | None:
    """Return the batch that a fact becomes; None if it counts nothing and asks for nothing.

    Args:
        payload: the fact as it was published.
    """
    if isinstance(fact, DeliveriesCounted):
        return Batch(identity(position, fact), fact.app, payload)
    if isinstance(fact, DeviceForgotten):
        return Batch(identity(position, fact), fact.app, payload, amqp_forgotten.EXCHANGE)
    if not (counted := spans(fact)):
        return None
    source, incarnation, number = SOURCE, 0, position
    if isinstance(fact, AmountReported) and fact.number:
        source, incarnation, number = fact.source, fact.incarnation, fact.number
    same = DeliveriesCounted(
        app=fact.app, at=fact.at, source=source, incarnation=incarnation, number=number, spans=counted
    )
    return Batch(identity(position, fact), fact.app, encode(same))


def encoded(message: Batch, channel: int, most: int) -> bytes:
    """Encode as AMQP frames for a channel, with `most` bytes of the body in each."""
    properties = _BEFORE_ID + frames.short_text(message.id)
    return (
        frames.method(channel, message.exchange, amqp_names.app_key(message.app), mandatory=True)
        + frames.header(channel, len(message.body), properties)
        + frames.body(channel, message.body, most)
    )


def blocks(messages: list[Batch], channel: int, most: int) -> Iterator[frames.Block]:
    """Encode messages in blocks."""
    return frames.blocks(encoded(each, channel, most) for each in messages)
