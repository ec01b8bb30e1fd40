"""Frames, byte for byte those of pamqp."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.encode import field_table
from pamqp.header import ContentHeader

from cloudmatch_bridge_rabbit.core import frames
from cloudmatch_bridge_rabbit.core.frames import BLOCK_BYTES, BLOCK_MESSAGES, Block, blocks

channels = st.integers(1, 65_535)
words = st.text(max_size=60)


@given(channels, st.sampled_from(["", "cloudmatch.bytes", "x" * 127]), words, st.booleans())
def test_the_method_is_as_pamqp_encodes_it(channel: int, exchange: str, key: str, mandatory: bool) -> None:
    publish = commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
    assert frames.method(channel, exchange, key, mandatory=mandatory) == frame.marshal(publish, channel)


@given(channels, st.integers(0, 2**40), words)
def test_the_content_header_is_as_pamqp_encodes_it(channel: int, size: int, kind: str) -> None:
    properties = frames.flags(frames.CONTENT_TYPE | frames.DELIVERY_MODE)
    properties += frames.short_text(kind) + frames.PERSISTENT
    of_pamqp = commands.Basic.Properties(content_type=kind, delivery_mode=2)
    expected = frame.marshal(ContentHeader(body_size=size, properties=of_pamqp), channel)
    if kind:  # pamqp leaves out what is empty
        assert frames.header(channel, size, properties) == expected


@given(channels, st.binary(min_size=1, max_size=50), st.integers(1, 60))
def test_a_body_is_split_into_frames_of_at_most_so_many_bytes(
    channel: int, content: bytes, most: int
) -> None:
    parts = [content[start : start + most] for start in range(0, len(content), most)]
    expected = b"".join(frame.marshal(ContentBody(part), channel) for part in parts)
    assert frames.body(channel, content, most) == expected


near = [sign * 2**bits + off for bits in (7, 8, 15, 16, 31, 32, 62) for sign in (1, -1) for off in (-1, 0, 1)]
integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(near)


@given(st.dictionaries(st.text(max_size=20), words | st.booleans() | integers, max_size=8))
def test_headers_are_as_pamqp_encodes_them(headers: dict[str, Any]) -> None:
    assert frames.table(frames.entries(headers)) == field_table(headers)


def test_an_integer_of_more_than_64_bits_is_refused() -> None:
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            frames.entries({"match": number})


def test_short_text_has_at_most_255_bytes() -> None:
    assert frames.short_text("x" * 255) == b"\xff" + b"x" * 255
    with pytest.raises(ValueError, match="range"):
        frames.short_text("é" * 128)


def test_blocks_hold_a_limited_number_of_messages_and_bytes() -> None:
    assert list(blocks([])) == []
    assert list(blocks([b"a", b"b"])) == [Block(b"ab", 2)]
    assert [block.messages for block in blocks([b"a"] * (2 * BLOCK_MESSAGES + 1))] == [BLOCK_MESSAGES] * 2 + [
        1
    ]
    large = b"x" * (BLOCK_BYTES - 1)
    assert list(blocks([large, b"a", b"b"])) == [Block(large + b"a", 2), Block(b"b", 1)]
    assert list(blocks([b"a", 2 * large])) == [Block(b"a", 1), Block(2 * large, 1)]
