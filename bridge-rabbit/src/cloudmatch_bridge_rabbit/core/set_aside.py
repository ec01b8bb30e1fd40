"""A fact that could not be published: the message that keeps it, and what becomes of it in the end."""

from collections.abc import Iterator

from cloudmatch_bridge_rabbit.core import batches, frames
from cloudmatch_bridge_rabbit.core.singles import Singles
from cloudmatch_bus.contract import amqp_set_aside, streams
from cloudmatch_bus.contract.messages import decode_fact

MAX_REASON = 500  # characters

_PROPERTIES = frames.flags(frames.HEADERS | frames.DELIVERY_MODE)


def encoded(payload: bytes, headers: dict[str, frames.Value], reason: str, channel: int, most: int) -> bytes:
    """Encode the message that keeps a fact as AMQP frames for a channel, with `most` bytes in each."""
    said = {**headers, amqp_set_aside.REASON: reason[:MAX_REASON]}
    properties = _PROPERTIES + frames.table(frames.entries(said)) + frames.PERSISTENT
    return (
        frames.method(channel, "", amqp_set_aside.QUEUE, mandatory=True)
        + frames.header(channel, len(payload), properties)
        + frames.body(channel, payload, most)
    )


def replayed(consumer: str, position: int, payload: bytes, channel: int, most: int) -> Iterator[frames.Block]:
    """Encode what the consumer would have published of a fact.

    Raises:
        Exception: it still cannot be published.
    """
    fact = decode_fact(payload)
    if consumer == streams.SINGLES:
        return frames.blocks(Singles(channel).messages([(position, fact)]))
    message = batches.batch(position, fact, payload)
    return batches.blocks([] if message is None else [message], channel, most)
