"""The dialect cloudmatch.v1: JSON control messages, text and binary payloads, receipts, resume."""

from collections.abc import Sequence

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects import base
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import SERVICE_RESTART, TOO_LARGE
from cloudmatch_edge.dialects.v1_messages import (
    TOKEN_MAX,
    Ack,
    Delivered,
    Error,
    Gap,
    Leave,
    Locate,
    Matched,
    Message,
    PeerAway,
    PeerBack,
    PeerLeft,
    Ping,
    Pong,
    Reason,
    Receipt,
    Renewed,
    Resumed,
    Token,
    TokenExpires,
    Unmatch,
    Waiting,
    Welcome,
    decode,
    encode,
    encode_json,
)

SUBPROTOCOL = "cloudmatch.v1"


def frame_limits(max_payload: int) -> tuple[int, int]:
    """Bytes of the largest text with a payload of `max_payload` bytes, of which JSON may escape each as six;
    and without any escapes. A token fits in, too."""
    return max(6 * max_payload, TOKEN_MAX) + 1024, max_payload + 1024


class V1:
    """The conversation of one device."""

    going_away = SERVICE_RESTART
    resumable = True
    acknowledges = True

    def __init__(self, welcome: Welcome) -> None:
        self._welcome = welcome
        # start of the `message` frames of `_from`, the peer
        self._prefix = b""
        self._from = ""
        self._announced_waiting = False

    # -- events

    def connected(self) -> list[SocketFrame]:
        return [encode(self._welcome)]

    def waiting(self, at: int) -> list[SocketFrame]:
        self._announced_waiting = True
        return [encode(Waiting(at))]

    def matched(self, match: int, peer: str, distance: float, at: int) -> list[SocketFrame]:
        """Announce `waiting` before every match, however short it was."""
        before = [] if self._announced_waiting else self.waiting(at)
        self._announced_waiting = False
        return [*before, encode(Matched(match, peer, round(distance, 1)))]

    def resumed(self, match: int, peer: str, distance: float, delivered: int) -> list[SocketFrame]:
        return [encode(Resumed(match, peer, round(distance, 1), delivered))]

    def payloads(self, peer: str, first: int, payloads: Sequence[Payload]) -> list[SocketFrame]:
        if peer != self._from:
            self._from = peer
            self._prefix = b'{"type":"message","from":%b,"n":' % encode_json(peer)
        prefix = self._prefix
        return [
            (True, b'%b%d,"text":%b}' % (prefix, n, encode_json(data.decode()))) if text else (text, data)
            for n, (text, data) in enumerate(payloads, first + 1)
        ]

    def delivered(self, total: int, refs: Sequence[str]) -> list[SocketFrame]:
        return [*(encode(Receipt(ref)) for ref in refs), encode(Delivered(total))]

    def peer_away(self, peer: str) -> list[SocketFrame]:
        return [encode(PeerAway(peer))]

    def peer_back(self, peer: str) -> list[SocketFrame]:
        return [encode(PeerBack(peer))]

    def peer_left(self, peer: str, reason: str) -> list[SocketFrame]:
        valid = reason if reason in Reason.__args__ else "left"  # type: ignore[attr-defined]  # a Literal has it
        return [encode(PeerLeft(peer, valid))]  # type: ignore[arg-type]  # looked up just above

    def gap(self, first: int, end: int, reason: str) -> list[SocketFrame]:
        return [encode(Gap(from_=first + 1, to=end, reason=reason))]

    def false_count(self, count: int, sent: int) -> list[SocketFrame]:
        detail = f"{count} payloads cannot have been received, {sent} were sent: this number counts nothing"
        return [encode(Error("bad_count", detail))]

    def undeliverable(self, send: base.Send) -> list[SocketFrame]:
        refs = dict(send.refs)
        detail = "there is no match to send this to"
        return [encode(Error("not_matched", detail, refs.get(i))) for i in range(len(send.payloads))]

    def rate_limited(self) -> list[SocketFrame]:
        detail = "unmatch, locate and token are allowed a few times a second only"
        return [encode(Error("rate_limited", detail))]

    def denied(self, code: base.Denial, detail: str) -> list[SocketFrame]:
        return [encode(Error(code, detail))]

    def token_expires(self, seconds: int) -> list[SocketFrame]:
        return [encode(TokenExpires(in_=seconds))]

    def renewed(self, expires: float | None) -> list[SocketFrame]:
        return [encode(Renewed(round((expires or 0) * 1000)))]

    # -- commands

    def parse(self, frames: list[SocketFrame]) -> list[base.Command]:
        commands: list[base.Command] = []
        payloads: list[Payload] = []
        refs: list[tuple[int, str]] = []
        limit = self._welcome.max_payload
        for frame in frames:
            is_text, data = frame
            if not is_text and len(data) <= limit:  # as it stands
                payloads.append(frame)
                continue
            command = self._parse_text(data, payloads, refs) if is_text else _too_large_binary(limit)
            if command is None:
                continue
            if payloads:
                commands.append(base.Send(payloads, refs))
                payloads, refs = [], []
            commands.append(command)
            if isinstance(command, base.Close | base.Leave):
                break
        if payloads:
            commands.append(base.Send(payloads, refs))
        return commands

    def _parse_text(
        self, data: bytes, payloads: list[Payload], refs: list[tuple[int, str]]
    ) -> base.Command | None:
        """Return the command of a text frame; None if it is a payload, which is then added to `payloads`."""
        message = decode(data)
        if not isinstance(message, Message):
            return _command(message)
        payload = message.text.encode()
        if len(payload) > self._welcome.max_payload:
            return base.Reply([encode(self._too_large(len(payload), message.ref))])
        if message.ref is not None:
            refs.append((len(payloads), message.ref))
        payloads.append((True, payload))
        return None

    def _too_large(self, size: int, ref: str | None) -> Error:
        limit = self._welcome.max_payload
        return Error("payload_too_large", f"text has {size} bytes, at most {limit} are allowed", ref)


def _too_large_binary(limit: int) -> base.Close:
    return base.Close(TOO_LARGE, f"a payload has at most {limit} bytes")


def _command(message: Ack | Unmatch | Locate | Token | Leave | Ping | Error) -> base.Command:
    match message:
        case Ack(received, match):
            return base.Acknowledge(received, match)
        case Unmatch():
            return base.Unmatch()
        case Locate(lat, lon):
            return base.Locate(lat, lon)
        case Token(token):
            return base.Renew(token)
        case Leave():
            return base.Leave()
        case Ping():
            return base.Reply([encode(Pong())])
        case Error():  # pragma: no branch  # there are no others
            return base.Reply([encode(message)])
