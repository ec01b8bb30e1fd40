"""A device's side of ``cloudmatch.v1``, without sockets and clocks: frames and calls in, frames and events
out.

The one hard idea: a match outlives connections. What was sent is kept until the server says that the peer has
it; what was received is counted. A new connection says how much was received, hears how much was delivered,
and both sides send the rest again. So nothing is lost, and nothing comes twice, wherever a connection broke.
Between `lost` and the server's ``resumed`` the conversation takes payloads and keeps them.

Times are seconds of any clock that does not go back.
"""

import enum
import json
from collections.abc import Mapping
from typing import Any

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
    Waiting,
)
from cloudmatch.core.inbox import Inbox
from cloudmatch.core.outbox import Delivered, Outbox, Payload, Refused, Settlement, Undelivered

SILENCE = 15.0  # s without a frame: a sign of life is asked for; as long again, and the line is dead
AGAIN = 1.0  # s after which what was too much for the server is said again
LEFT = 1000  # close code


class State(enum.StrEnum):
    """Where a device is."""

    CONNECTING = "connecting"  # for the first time, or anew because its connection was lost
    WAITING = "waiting"
    MATCHED = "matched"
    CLOSED = "closed"


class Conversation:
    """One device, over all its connections."""

    def __init__(self, lat: float, lon: float) -> None:
        self.position = (lat, lon)
        self.inbox = Inbox()
        self.outbox = Outbox()
        self.peer: Peer | None = None
        self.peer_away = False
        self.closed: Closed | None = None
        # bytes of a payload at most, as the server says
        self.max_payload: int | None = None
        # whether the connection has been quiet for too long to be alive
        self.dead = False
        self._frames: list[Data] = []
        self._events: list[Event | Settlement] = []
        # of the session, which outlives connections
        self._token = ""
        self._grace = 0.0
        # time at which a session without connection is over
        self._expires: float | None = None
        # whether the server has greeted this connection, and has said where the match stands
        self._welcomed = False
        self._in_step = False
        self._connected_at = self.position
        # match that we have asked to leave and that the server may still keep
        self._abandoned: int | None = None
        # time to say again what the server found too much: to leave a match, to be elsewhere
        self._again: float | None = None
        self._leaving = False
        self._trying = False  # to get a connection
        self._heard = 0.0
        self._asked = False
        self._receipts = 0

    # -- what comes out

    def frames(self) -> list[Data]:
        """Give the frames to be sent, in order, each once."""
        frames, self._frames = self._frames, []
        return frames

    def events(self) -> list[Event | Settlement]:
        """Give what the application is to hear, in order, each once."""
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
        """Time at which `tick` has something to do."""
        times = [None if self._trying else self._expires, self.inbox.ack_due if self._in_step else None]
        times.append(self._again)
        if self._welcomed and not self.dead:
            times.append(self._heard + (2 * SILENCE if self._asked else SILENCE))
        return min((time for time in times if time is not None), default=None)

    # -- connections

    def connect(self, now: float) -> dict[str, str]:
        """Begin a connection; give what its query says besides who the device is."""
        self.tick(now)
        self._connected_at = self.position
        self._trying, self.dead = True, False
        query = dict(zip(("lat", "lon"), map(str, self.position), strict=True))
        if self._token:
            query |= {"resume": self._token, "received": str(self.inbox.received)}
            match = self.peer.match if self.peer else self._abandoned
            if match is not None:
                query["match"] = str(match)
        return query

    def lost(self, code: int | None, now: float) -> None:
        """The connection ended with this close code, or broke."""
        if self._leaving:
            self.close(LEFT, "left")
        if self.closed:
            return
        if self._welcomed:
            self._expires = now + self._grace
            self._events.append(Disconnected(code))
        self._welcomed = self._in_step = self._asked = self._trying = False
        self._again = None
        self._frames.clear()
        self.inbox.pause()

    def close(self, code: int, reason: str) -> None:
        """Stop: the device does not connect again."""
        if self.closed:
            return
        left = self.outbox.clear()
        self._fail(left, "closed")
        self.closed = Closed(code, reason, tuple(p.data for p in left))
        self._events.append(self.closed)
        self.peer = self._expires = None
        self._welcomed = self._in_step = False

    def tick(self, now: float) -> None:
        """Do what time demands."""
        if self._expires is not None and not self._trying and now >= self._expires:
            self._end_match("expired")
            self._token = ""
            self._expires = self._abandoned = None
        if self._welcomed and now >= self._heard + SILENCE:
            self.dead = self._asked and now >= self._heard + 2 * SILENCE
            if not self._asked:
                self._asked = True
                self._say(type="ping")
        if self._again is not None and now >= self._again:
            self._again = None
            if self._abandoned is not None:
                self._say(type="unmatch")
            self.move(*self.position)
        self._acknowledge(now)

    # -- the application's calls

    def send(self, data: Data, receipt: bool = False) -> Payload:
        """Send a payload to the peer, or keep it until that is possible.

        Raises:
            NotMatchedError: there is no peer.
            PayloadRefusedError: it is larger than the server allows.
        """
        if self.peer is None or self._leaving:
            raise NotMatchedError("there is no peer to send to: wait for matched()")
        size = len(data.encode() if isinstance(data, str) else data)
        if self.max_payload is not None and size > self.max_payload:
            raise PayloadRefusedError(
                "payload_too_large", f"{size} bytes are more than the {self.max_payload} allowed"
            )
        ref = None
        if receipt and isinstance(data, str):
            self._receipts += 1
            ref = str(self._receipts)
        payload = Payload(data, size, receipt, ref)
        self.outbox.put(payload)
        self._transmit()
        return payload

    def take(self, now: float) -> Data:
        """Give the application the oldest payload; IndexError when there is none."""
        data = self.inbox.take(now)
        if self.inbox.ack_pressing:
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
        if self._in_step:
            self._say(type="unmatch")

    def move(self, lat: float, lon: float) -> None:
        """Be elsewhere. Changes whom the device can be matched with next."""
        self.position = (lat, lon)
        if self._welcomed:
            self._say(type="locate", lat=lat, lon=lon)

    def leave(self, now: float) -> None:
        """Leave for good; the server closes the connection. Without one, say so on the next."""
        if not self.closed and not self._leaving:
            self._leaving = True
            self._acknowledge(now, last=True)
            if self._welcomed:
                self._say(type="leave")
            elif not self._token:
                self.close(LEFT, "left")

    # -- the server's frames

    def receive(self, frame: Data, now: float) -> None:
        """Take a frame of the server.

        Raises:
            ProtocolError: it is not one.
        """
        self._heard, self._asked = now, False
        if isinstance(frame, bytes):
            self._arrived(None, frame)
            return
        try:
            self._hear(json.loads(frame))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ProtocolError(f"the server said what is no frame: {frame[:200]!r}") from error

    def _hear(self, frame: Mapping[str, Any]) -> None:
        match frame["type"]:
            case "welcome":
                self._welcome(frame)
            case "waiting":
                self._end_match("expired")
                self._abandoned = None
                self.inbox.begin(0)
                self._events.append(Waiting())
            case "matched":
                self._meet(frame, delivered=0, last=0)
            case "resumed":
                self._meet(frame, delivered=frame["received"], last=self.inbox.received)
            case "message":
                self._arrived(frame["n"], frame["text"])
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
                self._error(frame)
            case _:
                pass  # pong, and what a later protocol says
        self._transmit()

    def _welcome(self, frame: Mapping[str, Any]) -> None:
        self._token, self._grace = frame["resume"], frame["grace"]
        self.max_payload = frame["max_payload"]
        self._welcomed = True
        self._expires = None  # while there is a connection, the server decides
        if self._leaving:
            self._say(type="leave")
        elif self.position != self._connected_at:
            self.move(*self.position)

    def _meet(self, frame: Mapping[str, Any], delivered: int, last: int) -> None:
        """Be in a match: a new one, or the same as before, in which the peer goes on after payload `last`."""
        peer = Peer(frame["peer"], frame["distance"], frame["match"])
        self._in_step = True
        if peer.match == self._abandoned:
            self._say(type="unmatch")
            return
        self.peer_away = False
        if self.peer is not None and self.peer.match == peer.match:
            self._settle(self.outbox.settle(delivered))
            self.outbox.rewind()
            number = self.inbox.resume(last)
            self._events.append(Resumed(peer))
        else:
            self._end_match("expired")
            self._abandoned = None
            self.inbox.begin(peer.match)
            number = 0
            self.peer = peer
            self._events.append(Matched(peer))
        self._say(type="ack", received=number, match=peer.match)

    def _arrived(self, number: int | None, data: Data) -> None:
        if self.peer is not None and self._in_step:
            gap = self.inbox.arrive(number, data)
            if gap is not None:
                self._events.append(gap)

    def _error(self, frame: Mapping[str, Any]) -> None:
        code, detail = frame["code"], frame["detail"]
        payload = self.outbox.refuse(frame["ref"]) if "ref" in frame else None
        if payload is not None:
            self._events.append(Refused(payload, code, detail))
        elif code != "not_matched":  # else the payload was under way as its match ended, and failed then
            self._events.append(ServerError(code, detail))
            if code == "rate_limited":
                self._again = self._heard + AGAIN

    # -- both

    def _say(self, **fields: object) -> None:
        self._frames.append(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))

    def _transmit(self) -> None:
        """Send what may be sent."""
        while self._in_step and (payload := self.outbox.send()):
            if isinstance(payload.data, bytes):
                self._frames.append(payload.data)
            elif payload.ref is None:
                self._say(type="message", text=payload.data)
            else:
                self._say(type="message", text=payload.data, ref=payload.ref)

    def _acknowledge(self, now: float, last: bool = False) -> None:
        number = self.inbox.ack(now, last) if self._in_step and self.peer is not None else None
        if number is not None:
            self._say(type="ack", received=number, match=self.inbox.match)

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
        self.inbox.begin(0)
