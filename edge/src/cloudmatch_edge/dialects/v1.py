"""The dialect cloudmatch.v1: JSON control, text and binary payloads, receipts, resume.

Text frames are JSON objects with a `type`; a binary frame is a payload. The structs are the schema of
both directions: fields are only ever added, with defaults, and unknown ones are ignored.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects.base import Leave as LeaveWish
from cloudmatch_edge.dialects.base import Locate as LocateWish
from cloudmatch_edge.dialects.base import Received, Refuse, Reply, Send, Wish
from cloudmatch_edge.dialects.base import Unmatch as UnmatchWish
from cloudmatch_edge.dialects.close_codes import SERVICE_RESTART, TOO_LARGE

SUBPROTOCOL = "cloudmatch.v1"

Count = Annotated[int, Meta(ge=0)]
Ref = Annotated[str, Meta(min_length=1, max_length=128)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Reason = Literal["left", "unmatched", "expired", "replaced"]
Code = Literal["bad_json", "bad_message", "unknown_type", "not_matched", "payload_too_large", "rate_limited"]


class FromDevice(msgspec.Struct, frozen=True, tag_field="type"):
    """What a device says."""


class Message(FromDevice, frozen=True, tag="message"):
    """Payload for the match. With `ref` a receipt follows."""

    text: str
    ref: Ref | None = None


class Ack(FromDevice, frozen=True, tag="ack"):
    """The device has the first `received` payloads of this match."""

    received: Count
    match: int | None = None  # a device that names it is not taken to speak of a later match


class Unmatch(FromDevice, frozen=True, tag="unmatch"):
    """Leave the match, wait for another partner."""


class Locate(FromDevice, frozen=True, tag="locate"):
    """The device has moved: whom it is matched with next may change, not the present match."""

    lat: Latitude
    lon: Longitude


class Leave(FromDevice, frozen=True, tag="leave"):
    """Leave for good: no grace, then the server closes with 1000."""


class Ping(FromDevice, frozen=True, tag="ping"):
    """Ask for a `pong`: for those whose WebSocket cannot ping."""


class ToDevice(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """What a device hears."""


class Welcome(ToDevice, frozen=True, tag="welcome"):
    """First frame of every connection."""

    device: str
    session: str  # the same for all connections that go on with one another
    resume: str  # token, the same for all of them
    grace: float  # s
    max_payload: int  # bytes


class Waiting(ToDevice, frozen=True, tag="waiting"):
    """In the pool."""

    since: int  # ms since 1970


class Matched(ToDevice, frozen=True, tag="matched"):
    """A match begins: the counters of both directions start at 0."""

    match: int
    peer: str
    distance: float  # m


class Heard(ToDevice, frozen=True, tag="message"):
    """Payload number `n` of this match, counted from 1."""

    from_: str = msgspec.field(name="from")
    n: int
    text: str


class Delivered(ToDevice, frozen=True, tag="ack"):
    """The first `delivered` payloads that the device sent are in the peer's hands."""

    delivered: int


class Receipt(ToDevice, frozen=True, tag="receipt"):
    """The message with this `ref` is in the peer's hands."""

    ref: str


class PeerAway(ToDevice, frozen=True, tag="peer_away"):
    """The peer's connection dropped, its grace runs."""

    peer: str


class PeerBack(ToDevice, frozen=True, tag="peer_back"):
    """The peer has returned."""

    peer: str


class PeerLeft(ToDevice, frozen=True, tag="peer_left"):
    """The match is over; `waiting` follows."""

    peer: str
    reason: Reason


class Resumed(ToDevice, frozen=True, tag="resumed"):
    """The match goes on: the server has the first `received` of the device's payloads."""

    match: int
    peer: str
    distance: float  # m
    received: int


class Gap(ToDevice, frozen=True, tag="gap"):
    """Payloads `from` to `to`, both included, can never arrive."""

    from_: int = msgspec.field(name="from")
    to: int
    reason: str


class Error(ToDevice, frozen=True, tag="error"):
    """What the device sent was not done; the connection lives on."""

    code: Code
    detail: str
    ref: str | None = None


class Pong(ToDevice, frozen=True, tag="pong"):
    """The answer to a `ping`."""


AnyFromDevice = Message | Ack | Unmatch | Locate | Leave | Ping
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
    | Error
    | Pong
)
TYPES = {struct.__struct_config__.tag for struct in AnyFromDevice.__args__}


class _Typed(msgspec.Struct):
    type: str
    ref: Ref | None = None


_decode: Callable[[bytes], AnyFromDevice] = msgspec.json.Decoder(AnyFromDevice).decode
_decode_type = msgspec.json.Decoder(_Typed).decode
_encode = msgspec.json.Encoder().encode


def _frame(message: ToDevice) -> Payload:
    return (True, _encode(message))


def frame_limit(max_payload: int) -> int:
    """The largest frame, in bytes, whose payload may be of `max_payload`: JSON may need six for one."""
    return 6 * max_payload + 1024


class V1:
    """The conversation of one device."""

    going_away = SERVICE_RESTART.code
    resumable = True
    acknowledges = True

    def __init__(self, welcome: Welcome) -> None:
        self._welcome = welcome
        # the beginning of `message` frames of the present match, and whose they are
        self._prefix = b""
        self._from = ""
        self._told_waiting = False

    # -- what happened

    def connected(self) -> list[Payload]:
        return [_frame(self._welcome)]

    def waiting(self, at: int) -> list[Payload]:
        self._told_waiting = True
        return [_frame(Waiting(at))]

    def matched(self, match: int, peer: str, distance: float, at: int) -> list[Payload]:
        """Every match is preceded by `waiting`, however short that was."""
        before = [] if self._told_waiting else self.waiting(at)
        self._told_waiting = False
        return [*before, _frame(Matched(match, peer, round(distance, 1)))]

    def resumed(self, match: int, peer: str, distance: float, taken: int) -> list[Payload]:
        return [_frame(Resumed(match, peer, round(distance, 1), taken))]

    def heard(self, peer: str, first: int, payloads: Sequence[Payload]) -> list[Payload]:
        if peer != self._from:
            self._from = peer
            self._prefix = b'{"type":"message","from":%b,"n":' % _encode(peer)
        prefix = self._prefix
        return [
            (True, b'%b%d,"text":%b}' % (prefix, n, _encode(data.decode()))) if text else (text, data)
            for n, (text, data) in enumerate(payloads, first + 1)
        ]

    def taken(self, total: int, refs: Sequence[str]) -> list[Payload]:
        return [*(_frame(Receipt(ref)) for ref in refs), _frame(Delivered(total))]

    def away(self, peer: str) -> list[Payload]:
        return [_frame(PeerAway(peer))]

    def back(self, peer: str) -> list[Payload]:
        return [_frame(PeerBack(peer))]

    def left(self, peer: str, reason: str) -> list[Payload]:
        known = reason if reason in Reason.__args__ else "left"  # type: ignore[attr-defined]  # a Literal has them
        return [_frame(PeerLeft(peer, known))]  # type: ignore[arg-type]  # looked up just above

    def gap(self, first: int, end: int, reason: str) -> list[Payload]:
        return [_frame(Gap(from_=first + 1, to=end, reason=reason))]

    def undeliverable(self, send: Send) -> list[Payload]:
        refs = dict(send.refs)
        detail = "there is no match that this could go to"
        return [_frame(Error("not_matched", detail, refs.get(i))) for i in range(len(send.payloads))]

    def limited(self) -> list[Payload]:
        return [_frame(Error("rate_limited", "unmatch and locate are taken a few times a second only"))]

    # -- what the device wants

    def take(self, frames: list[Payload]) -> list[Wish]:
        most = self._welcome.max_payload
        wishes: list[Wish] = []
        payloads: list[Payload] = []
        refs: list[tuple[int, str]] = []
        for frame in frames:
            wish: Wish | None = None
            is_text, data = frame
            if is_text:
                said = _read(data)
                if isinstance(said, Message):
                    data = said.text.encode()
                    frame = True, data
                    if len(data) > most:
                        wish = Reply([_frame(self._too_large(len(data), said.ref))])
                    elif said.ref is not None:
                        refs.append((len(payloads), said.ref))
                else:
                    wish = _wish(said)
            elif len(data) > most:
                wish = Refuse(TOO_LARGE.code, f"a payload has at most {most} bytes")
            if wish is None:
                payloads.append(frame)
                continue
            if payloads:
                wishes.append(Send(payloads, refs))
                payloads, refs = [], []
            wishes.append(wish)
            if isinstance(wish, Refuse | LeaveWish):
                break
        if payloads:
            wishes.append(Send(payloads, refs))
        return wishes

    def _too_large(self, size: int, ref: str | None) -> Error:
        most = self._welcome.max_payload
        return Error("payload_too_large", f"text has {size} bytes, at most {most} are taken", ref)


def _read(data: bytes) -> AnyFromDevice | Error:
    """Read a text frame; if that cannot be done, say why."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _complaint(data, str(error))


def _wish(said: Ack | Unmatch | Locate | Leave | Ping | Error) -> Wish:
    match said:
        case Ack(received, match):
            return Received(received, match)
        case Unmatch():
            return UnmatchWish()
        case Locate(lat, lon):
            return LocateWish(lat, lon)
        case Leave():
            return LeaveWish()
        case Ping():
            return Reply([_frame(Pong())])
        case Error():
            return Reply([_frame(said)])


def _complaint(data: bytes, detail: str) -> Error:
    """Say what is wrong with a text frame that is none of the messages."""
    try:
        typed = _decode_type(data)
    except msgspec.ValidationError:
        return Error("bad_message", detail)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Error("bad_json", detail)
    if typed.type not in TYPES:
        return Error("unknown_type", f"{typed.type[:64]!r} is no type of this dialect", typed.ref)
    return Error("bad_message", detail, typed.ref)
