"""The messages of cloudmatch.v1, both ways: the schema that the AsyncAPI document is rendered from.

Text frames are JSON objects with a `type`. Fields are only added, with defaults; unknown ones are ignored.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_edge.dialects.base import SocketFrame

Count = Annotated[int, Meta(ge=0, le=10**18)]
Ref = Annotated[str, Meta(min_length=1, max_length=128)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Reason = Literal["left", "unmatched", "expired", "replaced"]
Code = Literal[
    "bad_json",
    "bad_message",
    "bad_count",
    "unknown_type",
    "not_matched",
    "payload_too_large",
    "rate_limited",
    "unauthorized",
    "forbidden",
]
TOKEN_MAX = 4096  # bytes


class FromDevice(msgspec.Struct, frozen=True, tag_field="type"):
    """A message from a device."""


class Message(FromDevice, frozen=True, tag="message"):
    """A payload for the match. With `ref` a receipt follows."""

    text: str
    ref: Ref | None = None


class Ack(FromDevice, frozen=True, tag="ack"):
    """The device has received the first `received` payloads of this match."""

    received: Count
    match: int | None = None  # if it is named, the ack never counts for a later match


class Unmatch(FromDevice, frozen=True, tag="unmatch"):
    """Leave the match and wait for another peer."""


class Locate(FromDevice, frozen=True, tag="locate"):
    """The device has moved. This affects its next match, not the present one."""

    lat: Latitude
    lon: Longitude


class Token(FromDevice, frozen=True, tag="token"):
    """Go on with another token, of the same device and app. An edge that takes it answers by a `token`, else
    by the error `unauthorized` or `forbidden`, and the present one stays."""

    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_MAX)]


class Leave(FromDevice, frozen=True, tag="leave"):
    """Leave for good: no grace, then the server closes with 1000."""


class Ping(FromDevice, frozen=True, tag="ping"):
    """Request a `pong`, for WebSocket clients that cannot send pings."""


class ToDevice(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A message to a device."""


class Welcome(ToDevice, frozen=True, tag="welcome"):
    """The first message of every connection."""

    device: str
    session: str  # the same for all connections of the session
    resume: str  # token of the session
    grace: float  # s
    max_payload: int  # bytes
    heartbeat: float | None = None  # s between the server's pings


class Waiting(ToDevice, frozen=True, tag="waiting"):
    """The device waits in the pool."""

    since: int  # ms since 1970


class Matched(ToDevice, frozen=True, tag="matched"):
    """A match begins; the counters of both directions start at 0."""

    match: int
    peer: str
    distance: float  # m, as match-engine tells it: rounded by default; 0: not told


class Heard(ToDevice, frozen=True, tag="message"):
    """Payload number `n` of this match, counted from 1."""

    from_: str = msgspec.field(name="from")
    n: int
    text: str


class Delivered(ToDevice, frozen=True, tag="ack"):
    """The first `delivered` payloads of the device were delivered to its peer."""

    delivered: int


class Receipt(ToDevice, frozen=True, tag="receipt"):
    """The message with this `ref` was delivered to the peer."""

    ref: str


class PeerAway(ToDevice, frozen=True, tag="peer_away"):
    """The peer is disconnected, within its grace."""

    peer: str


class PeerBack(ToDevice, frozen=True, tag="peer_back"):
    """The peer has returned."""

    peer: str


class PeerLeft(ToDevice, frozen=True, tag="peer_left"):
    """The match is over; `waiting` follows."""

    peer: str
    reason: Reason


class Resumed(ToDevice, frozen=True, tag="resumed"):
    """The match continues; the first `received` payloads of the device were delivered."""

    match: int
    peer: str
    distance: float  # m, as match-engine tells it: rounded by default; 0: not told
    received: int


class Gap(ToDevice, frozen=True, tag="gap"):
    """Payloads `from` to `to`, both included, can never arrive."""

    from_: int = msgspec.field(name="from")
    to: int
    reason: str


class TokenExpires(ToDevice, frozen=True, tag="token_expires"):
    """The token expires soon: send another by `token`, or the server closes with 4003."""

    in_: int = msgspec.field(name="in")  # s


class Renewed(ToDevice, frozen=True, tag="token"):
    """Another token was taken."""

    expires: int  # ms since 1970


class Error(ToDevice, frozen=True, tag="error"):
    """A message of the device was rejected; the connection stays open."""

    code: Code
    detail: str
    ref: str | None = None


class Pong(ToDevice, frozen=True, tag="pong"):
    """The answer to a `ping`."""


AnyFromDevice = Message | Ack | Unmatch | Locate | Token | Leave | Ping
AnyToDevice = (
    Welcome
    | Waiting
    | Matched
    | Heard
    | Delivered
    | Receipt
    | PeerAway
    | PeerBack
    | PeerLeft
    | Resumed
    | Gap
    | TokenExpires
    | Renewed
    | Error
    | Pong
)
# Arrays and objects, beyond which a frame is not read leniently: Python takes 1 µs for each, and our messages
# have one.
NESTED_MAX = 64
TYPES = {struct.__struct_config__.tag for struct in AnyFromDevice.__args__}


_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which UTF-8 cannot encode


class _Head(msgspec.Struct):
    """What an error needs to know of a frame."""

    type: str | None = None
    ref: str | None = None


_decode: Callable[[bytes], AnyFromDevice] = msgspec.json.Decoder(AnyFromDevice).decode
_decode_head = msgspec.json.Decoder(_Head).decode
encode_json: Callable[[object], bytes] = msgspec.json.Encoder().encode


def encode(message: ToDevice) -> SocketFrame:
    """Encode a message as a text frame."""
    return (True, encode_json(message))


def decode(data: bytes) -> AnyFromDevice | Error:
    """Decode a text frame; return the error to answer with if it is none of the messages."""
    try:
        return _decode(data)
    except UNREADABLE as error:
        nested = data.count(b"[") + data.count(b"{")
        return (_decode_leniently if nested <= NESTED_MAX else _error_of)(data, str(error))


def _error_of(data: bytes, detail: str) -> Error:
    """Return what is wrong with a text frame, without reading more of it than its type and `ref`."""
    try:
        head = _decode_head(data)
    except msgspec.ValidationError:
        return Error("bad_message", detail)
    except UNREADABLE:
        return Error("bad_json", detail)
    return _error(head.type, detail, _valid_ref(head.ref))


def _error(kind: object, detail: str, ref: str | None) -> Error:
    if isinstance(kind, str) and kind not in TYPES:
        return Error("unknown_type", f"{kind[:64]!r} is not a message type", ref)
    return Error("bad_message", detail, ref)


def _valid_ref(ref: object) -> str | None:
    valid = isinstance(ref, str) and 1 <= len(ref) <= 128 and not _SURROGATE.search(ref)
    return ref if valid else None  # type: ignore[return-value]  # it is a str then


def _decode_leniently(data: bytes, detail: str) -> AnyFromDevice | Error:
    """Decode a text frame in which whole numbers may have a fraction of 0: JSON has but one type of number.
    Return what is wrong with it, and with which `ref`."""
    try:
        fields = json.loads(data.decode(), parse_constant=_reject)
    except (ValueError, RecursionError):
        return Error("bad_json", detail)
    if not isinstance(fields, dict):
        return Error("bad_message", detail)
    ref = _valid_ref(fields.get("ref"))
    for name, value in fields.items():
        if isinstance(value, str) and _SURROGATE.search(value):
            return Error("bad_message", f"{name[:64]!a} has half a character: a lone surrogate", ref)
    try:
        message: AnyFromDevice = msgspec.convert({k: _whole(v) for k, v in fields.items()}, AnyFromDevice)
    except msgspec.ValidationError as error:
        return _error(fields.get("type"), str(error), ref)
    return message


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
