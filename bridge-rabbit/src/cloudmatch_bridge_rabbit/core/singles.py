"""One message for each payload, as in 2019: `cloudmatch_bus.contract.amqp.SizeMessage`, encoded as frames.

All messages of one direction at one time are the same but for their sizes and numbers, and are encoded once.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from cloudmatch_bridge_rabbit.core import frames
from cloudmatch_bridge_rabbit.core.identity import identity
from cloudmatch_bridge_rabbit.core.sizes import runs, spans
from cloudmatch_bus.contract import amqp, amqp_names
from cloudmatch_bus.contract.messages import AnyFact

DIRECTIONS = 8192  # kept encoded
KNOWN = 256  # sizes of a direction kept encoded
MOST = 1_000_000  # messages of one fact, at most: RabbitMQ takes 50,000 a second, and edges count every 20 ms

_PROPERTIES = frames.flags(
    frames.CONTENT_TYPE
    | frames.HEADERS
    | frames.DELIVERY_MODE
    | frames.CORRELATION_ID
    | frames.MESSAGE_ID
    | frames.TIMESTAMP
) + frames.short_text("text/plain")


class Singles:
    """Encodes facts for one channel, and counts what is wrong with them."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self.evened = 0  # spans whose sizes did not fit their totals: published as equal ones that do
        self.dropped = 0  # spans that AMQP cannot express, or that are too many messages

    def messages(self, facts: Iterable[tuple[int, AnyFact]]) -> Iterator[bytes]:
        """Encode a message for each payload of facts, given with their positions in EVENTS, in order."""
        for position, fact in facts:
            number, of_fact = 0, identity(position, fact).encode()
            for span in spans(fact):
                begin, number = number, number + span.payloads
                if number > MOST:
                    self.dropped += 1
                    continue
                sizes, own = runs(span)
                self.evened += not own
                try:
                    direction = _direction(self._channel, fact.app, span.sender, span.receiver, span.match)
                    yield from direction.messages(fact.at, of_fact, begin, sizes)
                except OverflowError:
                    self.dropped += 1


class _Direction:
    """The messages of one direction of a match."""

    def __init__(self, channel: int, app: str, sender: str, receiver: str, match: int) -> None:
        self._channel = channel
        key = amqp_names.device_key(app, sender)
        self._method = frames.method(channel, amqp.EXCHANGE, key, mandatory=False)
        self._before_at = frames.entries({amqp.APP: app})
        others: dict[str, frames.Value] = {amqp.BATCHED: True, amqp.SENDER: sender, amqp.MATCH: match}
        self._after_at = frames.entries({**others, amqp.RECEIVER: receiver})

    def messages(
        self, at: int, of_fact: bytes, number: int, sizes: Iterable[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Encode messages that are numbered from `number`.

        Args:
            of_fact: what names their fact.
            sizes: runs: (size, count).

        Raises:
            OverflowError: a number has more than 64 bits, or the time is before 1970, or far from now.
        """
        if at >= amqp.MAX_TIME:  # which breaks drivers that decode it
            raise OverflowError
        headers = self._before_at + frames.entries({amqp.AT: at}) + self._after_at
        properties = _PROPERTIES + frames.table(headers) + frames.PERSISTENT
        timestamp = (at // 1000).to_bytes(8)
        known: dict[tuple[int, int], tuple[bytes, bytes, bytes]] = {}
        for size, count in sizes:
            for each in range(number, number + count):
                message_id = b"%b.%d" % (of_fact, each)
                key = size, len(message_id)
                if (parts := known.get(key)) is None:
                    if len(known) == KNOWN:
                        known.clear()
                    parts = known[key] = self._around(size, len(message_id), properties, timestamp)
                before, between, after = parts
                yield before + message_id + between + message_id + after
            number += count

    def _around(
        self, size: int, length: int, properties: bytes, timestamp: bytes
    ) -> tuple[bytes, bytes, bytes]:
        """Encode what stands before, between and after the two ids, of `length` bytes each."""
        content = b"%d" % size
        between = bytes((length,))
        message_id = between + bytes(length)
        header = frames.header(self._channel, len(content), properties + message_id + message_id + timestamp)
        end = len(header) - len(timestamp) - len(frames.END)
        before = self._method + header[: end - 2 * length - 1]
        return before, between, header[end:] + frames.body(self._channel, content, len(content))


_direction = lru_cache(DIRECTIONS)(_Direction)
