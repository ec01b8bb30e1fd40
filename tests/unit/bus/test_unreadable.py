"""Bytes that are no message raise what readers catch, however they are wrong."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract import amqp_batches, amqp_names, claims, messages, payloads
from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.bounds import EXACT
from cloudmatch_bus.contract.deliveries import decode_runs
from cloudmatch_bus.contract.payloads import sizes_of, split
from cloudmatch_bus.contract.request_batches import decode_answers, decode_requests
from cloudmatch_bus.contract.subjects import (
    parse_ack,
    parse_handover,
    parse_handover_reply,
    parse_reply,
    parse_up,
    untoken,
)
from cloudmatch_bus.contract.unreadable import UNREADABLE

DECODERS = [getattr(messages, name) for name in dir(messages) if name.startswith("decode_")]
AWAY = b'{"type":"away","app":"demo","device":"a","edge":"edge-0","session":7}'
BEAT = b'{"role":"edge","name":"edge-0"}'
LEFT = b'{"type":"left","app":"demo","at":1,"device":"a","edge":"edge-0","session":7,"code":1000}'
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
            with contextlib.suppress(*UNREADABLE):
                decode(each)


TEXTS: list[Callable[[str], object]] = [
    parse_reply,
    lambda text: split(text, b"ciao"),
    sizes_of,
    lambda text: list(decode_runs(text)),
]
TALK = [parse_ack, parse_handover, parse_handover_reply]
ON_SUBJECTS = [claims.requests_on, claims.heartbeat_on, claims.fact_on]
NUMBERS = st.sampled_from(["-1", "+1", "1_0", "²", "9" * 400, "9" * 5000, "1e9", "0x1", str(2**53)])
SAMPLES = st.sampled_from(
    ["cm.v1.demo.ack.edge-0.a.7.", "t4-", "64*", "t", "b99999999999-b", ",", "1 e ", " 1 "]
)
texts = st.lists(SAMPLES | NUMBERS | st.text(max_size=8), max_size=6).map("".join)


@given(text=texts)
def test_any_text_in_a_subject_is_understood_or_refused(text: str) -> None:
    for parse in TEXTS:
        with contextlib.suppress(ValueError):
            parse(text)
    address = parse_reply(text)
    assert address is None or 0 <= address.seq < EXACT
    parse_up(text)
    with contextlib.suppress(ValueError):
        untoken(text)


@given(data=st.binary(max_size=60) | texts.map(str.encode))
def test_any_bytes_from_another_edge_are_numbers_of_ours_or_none(data: bytes) -> None:
    for parse in TALK:
        found = parse(data)
        assert found is None or all(0 <= n < EXACT for n in found if isinstance(n, int))


def test_what_is_far_too_long_is_refused_without_a_look() -> None:
    for data in (b" 1" * 500_000, b"1" * 10**6, b" " * 10**6 + b"1 2 3"):
        assert [parse(data) for parse in TALK] == [None, None, None]


@pytest.mark.parametrize("shape", ["b99999999999", "t00", "t-0", "t" + "1" * 4000])
def test_shapes_that_no_edge_writes_are_refused_and_not_remembered(shape: str) -> None:
    before = len(payloads._PARSED)
    with pytest.raises(ValueError, match="shape"):
        split(shape, b"")
    assert len(payloads._PARSED) == before


@given(data=st.binary(max_size=200), subject=texts)
def test_any_bytes_on_any_subject_are_a_message_or_unreadable(data: bytes, subject: str) -> None:
    for decode in ON_SUBJECTS:
        for each in (data, AWAY, BEAT, LEFT):
            with contextlib.suppress(*UNREADABLE):
                decode(subject, each)
    for decode_body in (amqp_batches.decode, decode_answers, decode_requests):
        with contextlib.suppress(*UNREADABLE, UnreadableError):
            decode_body(data)


@given(text=st.text(max_size=300))
def test_any_id_is_a_short_name_in_amqp(text: str) -> None:
    for name in (amqp_names.app_key(text), amqp_names.device_key(text, text)):
        assert len(name.encode("ascii")) <= amqp_names.MAX_SHORT
