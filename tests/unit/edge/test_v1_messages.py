"""Frames of cloudmatch.v1: encoded, decoded, and what is wrong with those that are none."""

import json

import pytest

from cloudmatch_edge.dialects.v1_messages import (
    NESTED_MAX,
    Ack,
    AnyFromDevice,
    Error,
    Heard,
    Leave,
    Locate,
    Message,
    Ping,
    Unmatch,
    Welcome,
    decode,
    encode,
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"type":"message","text":"ciao","ref":"1"}', Message("ciao", "1")),
        (b'{"type":"ack","received":3,"new":true}', Ack(3)),
        (b'{"type":"ack","received":3.0,"match":7e0}', Ack(3, 7)),
        (b'{"type":"unmatch"}', Unmatch()),
        (b'{"type":"locate","lat":1,"lon":-2.5}', Locate(1, -2.5)),
        (b'{"type":"leave"}', Leave()),
        (b'{"type":"ping"}', Ping()),
    ],
)
def test_a_text_frame_is_decoded_and_unknown_fields_are_ignored(data: bytes, message: AnyFromDevice) -> None:
    assert decode(data) == message


NESTED = b"[" + b"{}," * NESTED_MAX + b"0]"


def test_a_frame_just_within_the_limit_of_nesting_is_read_leniently() -> None:
    most = b"[" + b"{}," * (NESTED_MAX - 2) + b"0]"
    assert decode(b'{"type":"ack","received":5.0,"x":' + most + b"}") == Ack(5)
    assert decode(b'{"type":"ack","received":5,"x":' + NESTED + b"}") == Ack(5)


@pytest.mark.parametrize(
    ("data", "code", "ref"),
    [
        (b"{", "bad_json", None),
        (b"\xff", "bad_json", None),
        (b'{"x":' * 100_000, "bad_json", None),
        (b"[]", "bad_message", None),
        (b'{"type":1}', "bad_message", None),
        (b'{"type":"message","text":1,"ref":"r"}', "bad_message", "r"),
        (b'{"type":"ack","received":-1}', "bad_message", None),
        (b'{"type":"shout","ref":"r"}', "unknown_type", "r"),
        (b'{"type":"ack","received":1.5,"ref":"r"}', "bad_message", "r"),
        (b'{"type":"ack","received":1e999}', "bad_message", None),
        (b'{"type":"ack","received":1e300}', "bad_message", None),
        (b'{"type":"ack","received":NaN}', "bad_json", None),
        (b'{"type":1,"ref":"r"}', "bad_message", "r"),
        (b'{"ref":"r"}', "bad_message", "r"),
        (b'{"type":"message","text":"x","ref":""}', "bad_message", None),
        (b'{"type":"message","text":"x","ref":5}', "bad_message", None),
        (b'{"type":"message","text":"\\ud83d","ref":"r"}', "bad_message", "r"),
        (b'{"type":"message","text":"x","ref":"\\udc00"}', "bad_message", None),
        (b'{"type":"\\ud83d","ref":"r"}', "bad_message", "r"),
        (NESTED, "bad_message", None),
        (b'{"ref":"r","x":' + NESTED + b"}", "bad_message", "r"),
        (b'{"type":"message","text":1,"ref":"","x":' + NESTED + b"}", "bad_message", None),
        (b'{"type":"shout","ref":"r","x":' + NESTED + b"}", "unknown_type", "r"),
        (b'{"type":"ack","received":5.0,"x":' + NESTED + b"}", "bad_message", None),
        (b'{"type":"message","text":"x","ref":5,"x":' + NESTED + b"}", "bad_message", None),
        (b'{"x":' + NESTED, "bad_json", None),
    ],
)
def test_the_error_of_a_frame_says_what_is_wrong_and_names_its_ref(
    data: bytes, code: str, ref: str | None
) -> None:
    error = decode(data)
    assert isinstance(error, Error)
    assert (error.code, error.ref) == (code, ref)
    assert error.detail


@pytest.mark.parametrize("field", ["text", "ref", "type"])
def test_half_a_character_is_an_error_that_names_its_field(field: str) -> None:
    frame = {"type": "message", "text": "x", "ref": "1"} | {field: "\ud83d"}
    error = decode(json.dumps(frame).encode())
    assert isinstance(error, Error)
    assert f"'{field}'" in error.detail
    assert encode(error)


def test_a_message_is_a_text_frame_without_its_defaults() -> None:
    assert encode(Heard("b", 1, "è")) == (True, '{"type":"message","from":"b","n":1,"text":"è"}'.encode())
    assert encode(Error("not_matched", "")) == (True, b'{"type":"error","code":"not_matched","detail":""}')
    is_text, data = encode(Welcome("a", "s", "t", 30, 64))
    assert is_text
    assert b'"max_payload":64' in data
