"""The AMQP contract of sizes one by one, as in 2019. No driver here: `declare` takes any channel.

bridge-rabbit publishes each delivered payload as one persistent message to the topic exchange `EXCHANGE`,
encoded as `SizeMessage`, for whoever binds a queue to it. Windows count its batches instead (`amqp_batches`).
Analytics reads from `QUEUE` what others write to it, and what bridges of former versions do, which bind it. A
message that cannot be read is rejected and becomes a dead letter: `DEAD_QUEUE` keeps it as it was.
Consumers and producers of 2019 have *plain* queues: durable, without arguments.
"""

from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from cloudmatch_bus.contract.amqp_names import MAX_SHORT, device_key
from cloudmatch_bus.contract.amqp_tolerance import UNREADABLE_HEADERS

EXCHANGE = "cloudmatch.bytes"  # topic
QUEUE = "cloudmatch.bytes.analytics"
DEAD_EXCHANGE = "cloudmatch.bytes.dead"  # fanout
DEAD_QUEUE = "cloudmatch.bytes.dead"

# headers of a message
APP, SENDER, RECEIVER, MATCH, AT = "app", "from", "to", "match", "at"
BATCHED = "batched"  # any value: the size is part of a batch (`amqp_batches`) as well, and is counted there

DEFAULT_APP = "default"  # of messages without the header, as in 2019
MAX_DIGITS = 15  # no payload has 10^15 bytes
MAX_TIME = 253_402_300_800_000  # ms since 1970, exclusive: the year 10000
OWN = "cloudmatch."  # all our names begin with it


class UnreadableError(ValueError):
    """An AMQP message does not contain a size; the text gives the reason."""


class Encoded(NamedTuple):
    """The parts of an AMQP message, in types that every driver takes."""

    body: bytes
    routing_key: str
    message_id: str | None
    correlation_id: str | None  # the message id, for consumers of 2019, which count each once
    timestamp: datetime | None
    headers: dict[str, Any]  # of text and integers


class SizeMessage(NamedTuple):
    """The size of one payload, as RabbitMQ carries it.

    The body is the size as an ASCII decimal, as in 2019; the routing key is ``<app>.<sender>``, both escaped
    as subject tokens and shortened if they are too long (`amqp_names`); everything else, whole ids too, is a
    header. Messages of 2019 have a body and nothing else.
    """

    size: int  # bytes
    app: str = DEFAULT_APP
    sender: str = ""  # a device; "": unknown
    receiver: str = ""  # a device; "": none, the amount was reported by REST
    match: int = 0  # 0: none
    at: int | None = None  # when the payload was delivered, ms since 1970
    message_id: str | None = None  # <id of the fact>.<index in the fact>, the same in every redelivery

    def encode(self) -> Encoded:
        """Encode as the parts of an AMQP message."""
        headers: dict[str, Any] = {
            APP: self.app,
            SENDER: self.sender,
            RECEIVER: self.receiver,
            MATCH: self.match,
        }
        timestamp = None
        if self.at is not None:
            headers[AT] = self.at
            timestamp = datetime.fromtimestamp(self.at / 1000, UTC)
        key = device_key(self.app, self.sender)
        return Encoded(b"%d" % self.size, key, self.message_id, self.message_id, timestamp, headers)

    @classmethod
    def decode(
        cls,
        body: bytes,
        headers: Mapping[str, object],
        message_id: str | None = None,
        timestamp: datetime | None = None,
    ) -> "SizeMessage":
        """Decode an AMQP message. Without the header `at`, its timestamp counts.

        Raises:
            UnreadableError: the body is not an ASCII decimal, or `app`, `from` or `at` has the wrong type, or
                the headers could not be decoded.
        """
        if UNREADABLE_HEADERS in headers:
            raise UnreadableError("the headers cannot be decoded")
        receiver, match = headers.get(RECEIVER), headers.get(MATCH)
        return cls(
            _size(body),
            _text(headers, APP) or DEFAULT_APP,
            _text(headers, SENDER),
            receiver if isinstance(receiver, str) else "",
            match if isinstance(match, int) else 0,
            _time(headers, timestamp),
            message_id,
        )


def _size(body: bytes) -> int:
    if not (body.isascii() and body.isdigit()):
        raise UnreadableError("the body is not an ASCII decimal")
    if len(body) > MAX_DIGITS:
        raise UnreadableError(f"the body has more than {MAX_DIGITS} digits")
    return int(body)


def _text(headers: Mapping[str, object], name: str) -> str:
    value = headers.get(name, "")
    if not isinstance(value, str):
        raise UnreadableError(f"header {name!r} is {type(value).__name__}, not text")
    return value


def _time(headers: Mapping[str, object], timestamp: datetime | None) -> int | None:
    at = headers.get(AT, int(timestamp.timestamp() * 1000) if timestamp else None)
    if at is not None and (not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < MAX_TIME):
        raise UnreadableError(f"header {AT!r} is not a time in ms since 1970")
    return at


def dead_letter_headers(
    headers: Mapping[str, Any], queue: str, exchange: str, key: str, at: datetime
) -> dict[str, Any]:
    """Return the headers of a message that its consumer itself publishes to `DEAD_EXCHANGE`.

    RabbitMQ adds such headers when a message of a queue with a dead-letter exchange is rejected.

    Args:
        queue: in which the message was.
        exchange: to which it was published, with the routing key `key`.
        at: now.
    """
    earlier = headers.get("x-death")
    death = {"count": 1, "reason": "rejected", "queue": queue, "exchange": exchange}
    death |= {"routing-keys": [key], "time": at}
    kept = {name: _encodable(value) for name, value in headers.items()}
    kept["x-death"] = [death, *(_encodable(earlier) if isinstance(earlier, list) else [])]
    return kept


def _encodable(value: Any) -> Any:
    """Return a header's value as it can be encoded: drivers decode what is not UTF-8 as bytes."""
    match value:
        case bytes():
            return bytearray(value)
        case list():
            return [_encodable(each) for each in value]
        case dict():
            return {name: _encodable(each) for name, each in value.items()}
    return value


def plain_queues(text: str) -> list[str]:
    """Return the names in a comma-separated list of plain queues.

    Raises:
        ValueError: a name cannot be used; the text gives the reason.
    """
    names = text.split(",") if text else []
    for index, name in enumerate(names):
        if reason := _unusable(name) or ("is there twice" if name in names[:index] else ""):
            raise ValueError(f"{name!r} {reason}")
    return names


def _unusable(name: str) -> str:
    """Return why a plain queue cannot have this name; "" if it can."""
    if not name.isprintable():
        return "is not printable"
    if not name or name != name.strip():
        return "is empty, or begins or ends with a space"
    if len(name.encode()) > MAX_SHORT:
        return f"has more than {MAX_SHORT} bytes"
    if name.startswith("amq."):
        return "begins with 'amq.', which RabbitMQ reserves"
    return f"begins with '{OWN}', as those of CloudMatch itself" if name.startswith(OWN) else ""


class Queue(Protocol):
    """What `declare` needs of a driver's queue."""

    async def bind(self, exchange: str, /, routing_key: str) -> object:
        """Bind the queue to an exchange."""


Q = TypeVar("Q", bound=Queue)
Q_co = TypeVar("Q_co", bound=Queue, covariant=True)


class Channel(Protocol[Q_co]):
    """What `declare` needs of a driver's channel; aio-pika's has it."""

    async def declare_exchange(self, name: str, kind: str, /, *, durable: bool) -> object:
        """Create an exchange unless it exists."""

    async def declare_queue(
        self, name: str, /, *, durable: bool, passive: bool = False, arguments: dict[str, Any] | None = None
    ) -> Q_co:
        """Create a queue unless it exists; with `passive`, fail unless it exists."""


class NewChannel(Protocol):
    """A channel that is opened and closed by `async with`."""

    async def __aenter__(self) -> Channel[Queue]:
        """Open it."""

    def __aexit__(self, *error: Any) -> Awaitable[object]:
        """Close it."""


class Connection(Protocol):
    """What `declare_plain` needs of a driver's connection; aio-pika's has it."""

    def channel(self) -> NewChannel:
        """Return a new channel."""


async def declare(channel: Channel[Q], queue_type: str) -> Q:
    """Declare exchanges and queues, and return `QUEUE`, unbound. Both services call it, in any order.

    Args:
        queue_type: classic or quorum.
    """
    await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    return await declare_with_dead_letters(channel, QUEUE, DEAD_QUEUE, queue_type)


async def declare_bound(channel: Channel[Q], exchange: str, name: str, dead: str, queue_type: str) -> Q:
    """Declare a topic exchange, and a queue with dead letters that gets all that is published there."""
    await channel.declare_exchange(exchange, "topic", durable=True)
    queue = await declare_with_dead_letters(channel, name, dead, queue_type)
    await queue.bind(exchange, "#")
    return queue


async def declare_with_dead_letters(channel: Channel[Q], name: str, dead: str, queue_type: str) -> Q:
    """Declare a queue, and the exchange and queue `dead`, which keeps what its consumer rejects."""
    kind = {"x-queue-type": queue_type}
    await channel.declare_exchange(dead, "fanout", durable=True)
    letters = await channel.declare_queue(dead, durable=True, arguments=kind)
    await letters.bind(dead, dead)
    return await channel.declare_queue(name, durable=True, arguments={**kind, "x-dead-letter-exchange": dead})


async def declare_plain(
    connection: Connection, name: str, missing: type[Exception], exchange: str = ""
) -> None:
    """Declare a queue as in 2019; one that exists stays as it is, whatever its properties.

    Args:
        missing: what the driver raises when there is no such queue. RabbitMQ then closes the channel.
        exchange: bind the queue to this one with '#'; "": do not.
    """
    try:
        async with connection.channel() as channel:
            await _bind(await channel.declare_queue(name, durable=True, passive=True), exchange)
    except missing:
        async with connection.channel() as channel:
            await _bind(await channel.declare_queue(name, durable=True), exchange)


async def _bind(queue: Queue, exchange: str) -> None:
    if exchange:
        await queue.bind(exchange, "#")
