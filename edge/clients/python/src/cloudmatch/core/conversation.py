"""A device's side of ``cloudmatch.v1``, without I/O: frames and calls in, frames and events out.

The one hard idea: a match outlives connections. Payloads sent are kept until the server acknowledges their
delivery; payloads received are counted. A new connection reports how many were received and learns how many
were delivered, and both sides send the rest again: nothing is lost and nothing arrives twice, wherever a
connection breaks. Between `lost` and the server's ``resumed``, payloads sent by the application are kept.

Times are seconds of any clock that does not go back.
"""

import enum
import json
from collections.abc import Mapping
from typing import Any

from cloudmatch.core.close_codes import NORMAL
from cloudmatch.core.errors import NotMatchedError, PayloadRefusedError, ProtocolError
from cloudmatch.core.events import (
    Closed,
    Data,
    Disconnected,
    Event,
    Gap,
    Matched,
    Peer,
    PeerAway,
    PeerBack,
    PeerLeft,
    Resumed,
    ServerError,
    TokenExpires,
    Waiting,
)
from cloudmatch.core.inbox import Inbox
from cloudmatch.core.liveness import Liveness
from cloudmatch.core.outbox import Delivered, Outbox, Payload, Refused, Settlement, Undelivered
from cloudmatch.core.session import Session

RETRY_AFTER = 1.0  # s after which a message that the server rate-limited is repeated


class State(enum.StrEnum):
    """State of a device."""

    CONNECTING = "connecting"  # for the first time, or again after its connection was lost
    WAITING = "waiting"
    MATCHED = "matched"
    CLOSED = "closed"


class Conversation:
    """The conversation of one device, over all its connections."""

    def __init__(self, lat: float, lon: float) -> None:
        self.position = (lat, lon)
        self.inbox = Inbox()
        self.outbox = Outbox()
        self.peer: Peer | None = None
        self.peer_away = False
        self.closed: Closed | None = None
        # the server's limit on payloads, bytes
        self.max_payload: int | None = None
        self._frames: list[Data] = []
        self._events: list[Event | Settlement] = []
        self._session = Session()
        self._liveness = Liveness()
        # whether this connection was welcomed, and whether the server has confirmed the match on it
        self._welcomed = False
        self._synced = False
        self._connected_at = self.position
        # the match that we asked to leave and that the server may still keep
        self._abandoned: int | None = None
        # when to repeat a rate-limited `unmatch` or `locate`
        self._retry_at: float | None = None
        self._leaving = False
        self._receipts = 0

    # -- output

    def frames(self) -> list[Data]:
        """Return the frames to send, in order, each once."""
        frames, self._frames = self._frames, []
        return frames

    def events(self) -> list[Event | Settlement]:
        """Return the events for the application, in order, each once."""
        events, self._events = self._events, []
        return events

    @property
    def state(self) -> State:
        if self.closed:
            return State.CLOSED
        if not self._welcomed:
            return State.CONNECTING
        return State.MATCHED if self.peer else State.WAITING

    @property
    def deadline(self) -> float | None:
        """When to call `tick`."""
        times = [self._session.deadline, self._retry_at]
        if self._synced:
            times.append(self.inbox.ack_due)
        if self._welcomed:
            times.append(self._liveness.deadline)
        return min((time for time in times if time is not None), default=None)

    @property
    def dead(self) -> bool:
        """Whether the connection was silent for too long."""
        return self._liveness.dead

    # -- connections

    def connect(self, now: float) -> dict[str, str]:
        """Start a connection; return its query, besides the device's own parameters."""
        self.tick(now)
        self._connected_at = self.position
        self._session.connecting = True
        self._liveness.connect()
        query = dict(zip(("lat", "lon"), map(str, self.position), strict=True))
        if self._session.token:
            query |= {"resume": self._session.token, "received": str(self.inbox.received)}
            match = self.peer.match if self.peer else self._abandoned
            if match is not None:
                query["match"] = str(match)
        return query

    def lost(self, code: int | None, now: float) -> None:
        """The connection ended with this close code, or broke (None)."""
        if self._leaving:
            self.close(NORMAL, "left")
        if self.closed:
            return
        if self._welcomed:
            self._session.suspend(now)
            self._events.append(Disconnected(code))
        self._welcomed = self._synced = self._session.connecting = False
        self._liveness.disconnect()
        self._retry_at = None
        self._frames.clear()
        self.inbox.pause()

    def unavailable(self, code: str, detail: str) -> None:
        """The server accepts no connection at present."""
        self._events.append(ServerError(code, detail))

    def close(self, code: int, reason: str) -> None:
        """Close the device: it does not reconnect."""
        if self.closed:
            return
        left = self.outbox.clear()
        self._fail(left, "closed")
        self.closed = Closed(code, reason, tuple(p.data for p in left))
        self._events.append(self.closed)
        self.peer = None
        self._session.close()
        self._welcomed = self._synced = False

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._session.expire(now):
            self._end_match("expired")
            self._abandoned = None
        if self._welcomed and self._liveness.check(now):
            self._write(type="ping")
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            if self._abandoned is not None:
                self._write(type="unmatch")
            self.move(*self.position)
        self._acknowledge(now)

    # -- the application's calls

    def send(self, data: Data, receipt: bool = False) -> Payload:
        """Send a payload to the peer, or keep it until that is possible.

        Raises:
            NotMatchedError: There is no peer.
            PayloadRefusedError: The payload exceeds the server's limit.
        """
        if self.peer is None or self._leaving:
            raise NotMatchedError("there is no peer to send to: await matched() first")
        size = len(data.encode() if isinstance(data, str) else data)
        if self.max_payload is not None and size > self.max_payload:
            raise PayloadRefusedError(
                "payload_too_large", f"{size} bytes exceed the limit of {self.max_payload}"
            )
        ref = None
        if receipt and isinstance(data, str):
            self._receipts += 1
            ref = str(self._receipts)
        payload = Payload(data, size, receipt, ref)
        self.outbox.append(payload)
        self._transmit()
        return payload

    def take(self, now: float) -> Data:
        """Return the oldest payload, which then counts as taken; raise IndexError if there is none."""
        data = self.inbox.take(now)
        if self.inbox.ack_urgent:
            self._acknowledge(now)
        return data

    def unmatch(self, now: float) -> None:
        """Leave the match and wait for another peer."""
        if self.peer is None:
            raise NotMatchedError("there is no match to leave")
        self._acknowledge(now, last=True)
        self._abandoned = self.peer.match
        self._fail(self.outbox.clear(), "unmatched")
        self.peer = None
        if self._synced:
            self._write(type="unmatch")

    def move(self, lat: float, lon: float) -> None:
        """Change the position. This affects the next match, not the present one."""
        self.position = (lat, lon)
        if self._welcomed:
            self._write(type="locate", lat=lat, lon=lon)

    def renew(self, token: str) -> None:
        """Go on with another token on this connection."""
        if self._welcomed:
            self._write(type="token", token=token)

    def leave(self, now: float) -> None:
        """Leave for good; the server closes the connection. Without one, leave on the next."""
        if not self.closed and not self._leaving:
            self._leaving = True
            self._acknowledge(now, last=True)
            if self._welcomed:
                self._write(type="leave")
            elif not self._session.token:
                self.close(NORMAL, "left")

    # -- frames from the server

    def receive(self, frame: Data, now: float) -> None:
        """Process a frame from the server.

        Raises:
            ProtocolError: The frame is invalid.
        """
        self._liveness.on_frame(now)
        if isinstance(frame, bytes):
            self._on_payload(None, frame)
            return
        try:
            self._dispatch(json.loads(frame))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ProtocolError(f"invalid frame from the server: {frame[:200]!r}") from error

    def _dispatch(self, frame: Mapping[str, Any]) -> None:
        match frame["type"]:
            case "welcome":
                self._on_welcome(frame)
            case "waiting":
                self._end_match("expired")
                self._abandoned = None
                self.inbox.reset(0)
                self._events.append(Waiting())
            case "matched":
                self._on_matched(frame, delivered=0, last=0)
            case "resumed":
                self._on_matched(frame, delivered=frame["received"], last=self.inbox.received)
            case "message":
                self._on_payload(frame["n"], frame["text"])
            case "ack":
                self._settle(self.outbox.settle(frame["delivered"]))
            case "receipt":
                self._settle(self.outbox.settle_to(frame["ref"]))
            case "peer_away" if self.peer and not self.peer_away:
                self.peer_away = True
                self._events.append(PeerAway(self.peer))
            case "peer_back" if self.peer and self.peer_away:
                self.peer_away = False
                self._events.append(PeerBack(self.peer))
            case "peer_left":
                self._end_match(frame["reason"])
            case "gap":
                self.inbox.skip(frame["to"])
                self._events.append(Gap(frame["from"], frame["to"], frame["reason"]))
            case "error":
                self._on_error(frame)
            case "token_expires":
                self._events.append(TokenExpires(frame["in"]))
            case _:
                pass  # pong, token, and types of later protocols
        self._transmit()

    def _on_welcome(self, frame: Mapping[str, Any]) -> None:
        self._session.welcome(frame["resume"], frame["grace"])
        self._liveness.welcome(self._liveness.last_frame_at, frame["grace"], frame.get("heartbeat"))
        self.max_payload = frame["max_payload"]
        self._welcomed = True
        if self._leaving:
            self._write(type="leave")
        elif self.position != self._connected_at:
            self.move(*self.position)

    def _on_matched(self, frame: Mapping[str, Any], delivered: int, last: int) -> None:
        """Enter a match, or resume the present one, in which the peer continues after payload `last`."""
        peer = Peer(frame["peer"], frame["distance"], frame["match"])
        self._synced = True
        if peer.match == self._abandoned:
            self._write(type="unmatch")
            return
        self.peer_away = False
        if self.peer is not None and self.peer.match == peer.match:
            self._settle(self.outbox.resume(delivered))
            number = self.inbox.resume(last)
            self._events.append(Resumed(peer))
        else:
            self._end_match("expired")
            self._abandoned = None
            self.inbox.reset(peer.match)
            number = 0
            self.peer = peer
            self._events.append(Matched(peer))
        self._write(type="ack", received=number, match=peer.match)

    def _on_payload(self, number: int | None, data: Data) -> None:
        if self.peer is not None and self._synced:
            gap = self.inbox.receive(number, data)
            if gap is not None:
                self._events.append(gap)

    def _on_error(self, frame: Mapping[str, Any]) -> None:
        code, detail = frame["code"], frame["detail"]
        payload = self.outbox.refuse(frame["ref"]) if "ref" in frame else None
        if payload is not None:
            self._events.append(Refused(payload, code, detail))
        elif code != "not_matched":  # else the payload was in flight when its match ended, and failed then
            self._events.append(ServerError(code, detail))
            if code == "rate_limited":
                self._retry_at = self._liveness.last_frame_at + RETRY_AFTER

    # -- shared

    def _write(self, **fields: object) -> None:
        self._frames.append(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))

    def _transmit(self) -> None:
        """Send the payloads that fit in flight."""
        while self._synced and (payload := self.outbox.next_to_send()):
            if isinstance(payload.data, bytes):
                self._frames.append(payload.data)
            elif payload.ref is None:
                self._write(type="message", text=payload.data)
            else:
                self._write(type="message", text=payload.data, ref=payload.ref)

    def _acknowledge(self, now: float, last: bool = False) -> None:
        number = self.inbox.ack(now, last) if self._synced and self.peer is not None else None
        if number is not None:
            self._write(type="ack", received=number, match=self.inbox.match)

    def _settle(self, payloads: list[Payload]) -> None:
        self._events += (Delivered(payload) for payload in payloads if payload.receipt)

    def _fail(self, payloads: list[Payload], reason: str) -> None:
        peer = self.peer.id if self.peer else ""
        self._events += (Undelivered(payload, peer, reason) for payload in payloads if payload.receipt)

    def _end_match(self, reason: str) -> None:
        if self.peer is None:
            return
        left = self.outbox.clear()
        self._fail(left, reason)
        self._events.append(PeerLeft(self.peer, reason, tuple(p.data for p in left)))
        self.peer = None
        self.inbox.reset(0)
