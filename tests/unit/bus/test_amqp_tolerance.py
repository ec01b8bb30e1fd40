"""No property and no header of a message ends the connection that brings it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode

from cloudmatch_bus.contract.amqp import SizeMessage, UnreadableError
from cloudmatch_bus.contract.amqp_names import MAX_SHORT
from cloudmatch_bus.contract.amqp_tolerance import LATEST, UNREADABLE_HEADERS, Decode, encodable, tolerate


@pytest.fixture(scope="module")
def decoders() -> dict[str, Decode]:
    tolerant = dict(decode.METHODS)
    tolerate(tolerant)
    return tolerant


def nested(depth: int) -> bytes:
    """A table in a table in a table."""
    table = bytes(4)
    for _ in range(depth):
        table = (len(table) + 3).to_bytes(4) + b"\x01aF" + table
    return table


@given(st.binary(max_size=255), st.binary(max_size=20))
def test_any_short_text_is_taken_whole_and_can_be_encoded_again(
    decoders: dict[str, Decode], text: bytes, more: bytes
) -> None:
    taken, found = decoders["shortstr"](bytes((len(text),)) + text + more)
    assert taken == 1 + len(text)
    assert len(found.encode()) <= MAX_SHORT
    assert found.encode() == text or not text.isascii()


def test_texts_that_are_not_utf_8_are_told_apart() -> None:
    tolerant = dict(decode.METHODS)
    tolerate(tolerant)
    texts = [bytes((255,)) * 255, bytes((255,)) * 254 + b"\xfe", b"\xff", b"\xfe"]
    assert len({tolerant["shortstr"](bytes((len(text),)) + text)[1] for text in texts}) == len(texts)


@pytest.mark.parametrize("time", [2**60, 2**63, 2**64 - 1])
def test_a_time_that_no_clock_has_is_the_latest(decoders: dict[str, Decode], time: int) -> None:
    assert decoders["timestamp"](time.to_bytes(8) + b"more") == (8, LATEST)
    assert encode.timestamp(LATEST)


def test_a_time_that_a_clock_has_is_that_time(decoders: dict[str, Decode]) -> None:
    assert decoders["timestamp"]((5).to_bytes(8)) == (8, datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    "table",
    [
        (8).to_bytes(4) + b"\x02\xff\xfeS\0\0\0\0",
        (9).to_bytes(4) + b"\x01aT" + b"\xff" * 6,
        (3).to_bytes(4) + b"\x01a?",
        nested(5_000),
    ],
    ids=["name", "time", "type", "deep"],
)
def test_headers_that_cannot_be_decoded_are_kept_as_bytes(decoders: dict[str, Decode], table: bytes) -> None:
    taken, headers = decoders["table"](table + b"more")
    assert taken == len(table)
    assert headers == {UNREADABLE_HEADERS: bytearray(table[4:])}
    assert encode.field_table(headers)
    with pytest.raises(UnreadableError, match="the headers cannot be decoded"):
        SizeMessage.decode(b"4", headers)


@given(st.binary(max_size=60))
def test_any_bytes_are_headers_of_their_length(decoders: dict[str, Decode], entries: bytes) -> None:
    table = len(entries).to_bytes(4) + entries
    taken, headers = decoders["table"](table)
    assert taken == len(table)
    encode.field_table(encodable(headers, encode.field_table))


def test_headers_that_can_be_decoded_are_decoded(decoders: dict[str, Decode]) -> None:
    headers = {"app": "demo", "at": 5, "x-death": [{"count": 1}]}
    assert decoders["table"](encode.field_table(headers))[1] == headers


def test_only_headers_that_cannot_be_encoded_become_text() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    headers = {"app": "demo", "from": 5, "large": 1e300, "exact": Decimal(2**32 - 1), "deep": deep}
    found = encodable(headers, encode.field_table)
    assert found == headers | {"large": "1e+300", "exact": "Decimal('4294967295')", "deep": "list"}
    assert encode.field_table(found)
