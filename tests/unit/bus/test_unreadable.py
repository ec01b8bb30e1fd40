"""Bytes that are no message raise what readers catch, however they are wrong."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract import messages
from cloudmatch_bus.contract.unreadable import UNREADABLE

DECODERS = [getattr(messages, name) for name in dir(messages) if name.startswith("decode_")]
WRONG = [
    b"",
    b"{",
    b"[]",
    b'{"type":"\xff"}',
    b'{"type":"' + b"\xc3" + b'"}',
    b"[" * 200_000,
    b'{"type":{"a":' * 50_000,
    b'{"a":' * 200_000,
    b'{"type":"connected","app":"demo","at":1e999}',
    b'{"type":"connected","app":"demo","at":' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("data", WRONG, ids=lambda data: repr(data[:40]))
@pytest.mark.parametrize("decode", DECODERS)
def test_bytes_that_are_no_message_are_unreadable(decode: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(UNREADABLE):
        decode(data)


@given(data=st.binary(max_size=200), at=st.integers(0, 200))
def test_any_bytes_are_a_message_or_unreadable(data: bytes, at: int) -> None:
    sample = b'{"type":"waiting","session":7,"since":1,"app":"demo","device":"a","edge":"edge-0","match":1}'
    for decode in DECODERS:
        for each in (data, sample[:at] + data + sample[at:]):
            with contextlib.suppress(UNREADABLE):
                decode(each)
