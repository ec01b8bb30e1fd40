"""AMQP 0-9-1 frames of published messages.

A message is three frames: method, content header, body. Drivers build each from objects, which costs more
than everything else about a message. Here they are put together from bytes, and what the messages of one
direction have in common is encoded once. The bytes are those that pamqp makes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

METHOD, HEADER, BODY, END = b"\x01", b"\x02", b"\x03", b"\xce"
PUBLISH = b"\x00\x3c\x00\x28\x00\x00"  # class basic, method publish, a reserved short
BASIC = b"\x00\x3c\x00\x00"  # class basic, weight

# properties of a message, by their bit in the flags
CONTENT_TYPE, HEADERS, DELIVERY_MODE = 1 << 15, 1 << 13, 1 << 12
CORRELATION_ID, MESSAGE_ID, TIMESTAMP = 1 << 10, 1 << 7, 1 << 6
PERSISTENT = b"\x02"

BLOCK_BYTES, BLOCK_MESSAGES = 64 * 1024, 256  # at which a block is full

Value = str | int | bool


class Block(NamedTuple):
    """Frames that are written at once."""

    frames: bytes
    messages: int


def blocks(messages: Iterable[bytes]) -> Iterator[Block]:
    """Join messages into blocks; one that is larger than a block is a block of its own."""
    joined: list[bytes] = []
    length = 0
    for message in messages:
        if joined and (length + len(message) > BLOCK_BYTES or len(joined) == BLOCK_MESSAGES):
            yield Block(b"".join(joined), len(joined))
            joined, length = [], 0
        joined.append(message)
        length += len(message)
    if joined:
        yield Block(b"".join(joined), len(joined))


def method(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Encode the frame of the method basic.publish."""
    return _frame(
        METHOD,
        channel,
        PUBLISH + short_text(exchange) + short_text(routing_key) + (b"\x01" if mandatory else b"\x00"),
    )


def header(channel: int, body_size: int, properties: bytes) -> bytes:
    """Encode the frame of the content header; `properties` are flags and values."""
    return _frame(HEADER, channel, BASIC + body_size.to_bytes(8) + properties)


def body(channel: int, content: bytes, most: int) -> bytes:
    """Encode the frames of the body, with `most` bytes of it in each."""
    return b"".join(
        _frame(BODY, channel, content[start : start + most]) for start in range(0, len(content), most)
    )


def flags(which: int) -> bytes:
    """Encode which properties there are."""
    return which.to_bytes(2)


def short_text(text: str) -> bytes:
    """Encode text.

    Raises:
        ValueError: it has more than 255 bytes.
    """
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


def table(entries: bytes) -> bytes:
    """Encode headers of `entries`, in the order of their names."""
    return len(entries).to_bytes(4) + entries


def entries(headers: Mapping[str, Value]) -> bytes:
    """Encode the entries of a table of headers, in the order of their names.

    Raises:
        OverflowError: an integer has more than 64 bits.
    """
    return b"".join(short_text(name) + _value(value) for name, value in sorted(headers.items()))


def _frame(kind: bytes, channel: int, payload: bytes) -> bytes:
    return kind + channel.to_bytes(2) + len(payload).to_bytes(4) + payload + END


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, str):
        encoded = value.encode()
        return b"S" + len(encoded).to_bytes(4) + encoded
    return _integer(value)


def _integer(value: int) -> bytes:
    """Encode an integer in the smallest type that holds it."""
    bits = (value if value >= 0 else ~value).bit_length()
    if bits < 8:
        return b"b" + value.to_bytes(1, signed=True)
    if bits < 16:
        return b"s" + value.to_bytes(2, signed=True)
    if bits == 16 and value > 0:
        return b"u" + value.to_bytes(2)
    if bits < 32:
        return b"I" + value.to_bytes(4, signed=True)
    if bits == 32 and value > 0:
        return b"i" + value.to_bytes(4)
    return b"l" + value.to_bytes(8, signed=True)
