"""The dialect cloudmatch.v1: JSON control messages, text and binary payloads, receipts, resume."""

from collections.abc import Sequence

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects import base
from cloudmatch_edge.dialects.close_codes import SERVICE_RESTART, TOO_LARGE
from cloudmatch_edge.dialects.v1_messages import (
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
    Resumed,
    Unmatch,
    Waiting,
    Welcome,
    decode,
    encode,
    encode_json,
)

SUBPROTOCOL = "cloudmatch.v1"


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
        return [encode(self._welcome)]

    def waiting(self, at: int) -> list[Payload]:
        self._told_waiting = True
        return [encode(Waiting(at))]

    def matched(self, match: int, peer: str, distance: float, at: int) -> list[Payload]:
        """Every match is preceded by `waiting`, however short that was."""
        before = [] if self._told_waiting else self.waiting(at)
        self._told_waiting = False
        return [*before, encode(Matched(match, peer, round(distance, 1)))]

    def resumed(self, match: int, peer: str, distance: float, taken: int) -> list[Payload]:
        return [encode(Resumed(match, peer, round(distance, 1), taken))]

    def heard(self, peer: str, first: int, payloads: Sequence[Payload]) -> list[Payload]:
        if peer != self._from:
            self._from = peer
            self._prefix = b'{"type":"message","from":%b,"n":' % encode_json(peer)
        prefix = self._prefix
        return [
            (True, b'%b%d,"text":%b}' % (prefix, n, encode_json(data.decode()))) if text else (text, data)
            for n, (text, data) in enumerate(payloads, first + 1)
        ]

    def taken(self, total: int, refs: Sequence[str]) -> list[Payload]:
        return [*(encode(Receipt(ref)) for ref in refs), encode(Delivered(total))]

    def away(self, peer: str) -> list[Payload]:
        return [encode(PeerAway(peer))]

    def back(self, peer: str) -> list[Payload]:
        return [encode(PeerBack(peer))]

    def left(self, peer: str, reason: str) -> list[Payload]:
        known = reason if reason in Reason.__args__ else "left"  # type: ignore[attr-defined]  # a Literal has them
        return [encode(PeerLeft(peer, known))]  # type: ignore[arg-type]  # looked up just above

    def gap(self, first: int, end: int, reason: str) -> list[Payload]:
        return [encode(Gap(from_=first + 1, to=end, reason=reason))]

    def undeliverable(self, send: base.Send) -> list[Payload]:
        refs = dict(send.refs)
        detail = "there is no match that this could go to"
        return [encode(Error("not_matched", detail, refs.get(i))) for i in range(len(send.payloads))]

    def limited(self) -> list[Payload]:
        return [encode(Error("rate_limited", "unmatch and locate are taken a few times a second only"))]

    # -- what the device wants

    def take(self, frames: list[Payload]) -> list[base.Wish]:
        most = self._welcome.max_payload
        wishes: list[base.Wish] = []
        payloads: list[Payload] = []
        refs: list[tuple[int, str]] = []
        for frame in frames:
            wish: base.Wish | None = None
            is_text, data = frame
            if is_text:
                said = decode(data)
                if isinstance(said, Message):
                    data = said.text.encode()
                    frame = True, data
                    if len(data) > most:
                        wish = base.Reply([encode(self._too_large(len(data), said.ref))])
                    elif said.ref is not None:
                        refs.append((len(payloads), said.ref))
                else:
                    wish = _wish(said)
            elif len(data) > most:
                wish = base.Refuse(TOO_LARGE.code, f"a payload has at most {most} bytes")
            if wish is None:
                payloads.append(frame)
                continue
            if payloads:
                wishes.append(base.Send(payloads, refs))
                payloads, refs = [], []
            wishes.append(wish)
            if isinstance(wish, base.Refuse | base.Leave):
                break
        if payloads:
            wishes.append(base.Send(payloads, refs))
        return wishes

    def _too_large(self, size: int, ref: str | None) -> Error:
        most = self._welcome.max_payload
        return Error("payload_too_large", f"text has {size} bytes, at most {most} are taken", ref)


def _wish(said: Ack | Unmatch | Locate | Leave | Ping | Error) -> base.Wish:
    match said:
        case Ack(received, match):
            return base.Received(received, match)
        case Unmatch():
            return base.Unmatch()
        case Locate(lat, lon):
            return base.Locate(lat, lon)
        case Leave():
            return base.Leave()
        case Ping():
            return base.Reply([encode(Pong())])
        case Error():
            return base.Reply([encode(said)])
