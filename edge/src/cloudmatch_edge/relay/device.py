"""One connection of a device: its match, what it wants, and what it hears of."""

from collections.abc import Sequence
from typing import Protocol

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceGone,
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PayloadsDelivered,
    PeerAway,
    PeerReturned,
)
from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects.base import (
    Dialect,
    Leave,
    Locate,
    Received,
    Refuse,
    Reply,
    Send,
    Unmatch,
    Wish,
)
from cloudmatch_edge.dialects.close_codes import NORMAL, REPLACED
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.match import Match, dropped, undelivered
from cloudmatch_edge.relay.rate_limit import Allowance
from cloudmatch_edge.relay.sender import WINDOW_PAYLOADS

UNBOUNDED = (1 << 30, 1 << 30)  # frames and bytes: without a match nothing is kept


class Socket(Protocol):
    """What a device needs of its connection. Nothing here waits."""

    reading: bool  # whether what the device sends is read

    def send(self, frames: Sequence[Payload]) -> None:
        """Write frames by the end of this turn, or do nothing when the connection is closing."""

    def go_on(self) -> None:
        """Take payloads again: `Device.room` has grown."""

    def end(self, code: int, reason: str) -> None:
        """Begin to close."""


class _Nowhere:
    """The socket of a device that has none."""

    reading = False

    def send(self, frames: Sequence[Payload]) -> None:
        pass

    def go_on(self) -> None:
        pass

    def end(self, code: int, reason: str) -> None:
        pass


class Wire(Protocol):
    """What a device needs of the relay."""

    name: str

    def now(self) -> float:
        """Give the time in seconds; only differences mean anything."""

    def clock(self) -> int:
        """Give ms since 1970."""

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Send to the bus, without waiting."""

    def fact(self, fact: PayloadsDelivered) -> None:
        """Publish what happened."""

    def began(self, match: Match) -> None:
        """Listen for acks of this match."""

    def busy(self, match: Match) -> None:
        """Call `tick` of the match until it is idle."""

    def ended(self, match: Match) -> None:
        """Listen no more."""

    def linger(self, match: Match) -> None:
        """Listen a little longer, then `close` the match."""

    def soon(self, match: Match) -> None:
        """Call `settle` of the match within a few ms: it owes acks or sizes."""

    def doubt(self, device: "Device") -> None:
        """Ask match-engine again where the device stands."""

    def part(self, device: "Device", match: Match) -> None:
        """Ask match-engine to end the match."""

    def seek(self, device: "Device") -> None:
        """Tell match-engine anew who and where the device is."""

    def renew(self, device: "Device") -> None:
        """Enter the pool as a new connection: match-engine has given up the one there was."""

    def forget(self, device: "Device") -> None:
        """Do not wait for the device's return any longer."""


class Device:
    """A connection of a device, on this edge.

    Args:
        session: µs since 1970 when the socket was accepted.
    """

    def __init__(
        self, who: Parameters, connection_id: int, socket: Socket, wire: Wire, dialect: Dialect
    ) -> None:
        self.who = who
        self.connection_id = connection_id
        self.socket = socket
        self.wire = wire
        self.dialect = dialect
        self.match: Match | None = None
        self.location_version = 0  # how often it has moved
        self.clogged = False  # the socket's write buffer is over its high-water mark
        self.replaced = False  # a newer connection has the id
        self.leaving = False  # for good
        self.away = False  # the socket is gone; the device may return by another
        self.acks = False  # it says what it has received
        self.names_match = False  # and of which match
        self.token = ""  # of the session, which may outlive the connection
        self.grace = 0.0  # s for which it may be away
        self.resumes = False  # it goes on with an earlier connection
        self.subject = subjects.dn(who.app, wire.name, who.id)
        self._allowance = Allowance()
        # the highest number heard from match-engine, and whether of a match: it waits since the number that
        # the match gets which it then makes
        self._heard = (0, False)
        # batches of a match that match-engine has not told us of yet
        self._early: list[tuple[subjects.ReplyAddress, bytes]] = []
        self._wonders = 0  # the highest number of a match that was spoken of

    @property
    def puzzled(self) -> bool:
        """Whether it was spoken to in a match that it knows nothing of."""
        return (self._wonders, True) > self._heard

    @property
    def unheard(self) -> bool:
        """Whether match-engine has not told yet where it stands."""
        return self._heard == (0, False)

    @property
    def heard(self) -> tuple[int, bool]:
        """The newest number heard from match-engine, and whether it is that of a match."""
        return self._heard

    def start_over(self) -> None:
        """Numbers have begun anew: what was heard so far counts no more."""
        self.end_match("expired")
        self._heard = (0, False)
        self._wonders = 0
        self._early.clear()

    @property
    def audible(self) -> bool:
        """Whether the device says what it has received, and is listened to."""
        return self.acks and self.socket.reading

    def resume(self) -> None:
        """Go on with an earlier connection."""
        self.resumes = True

    # -- from the socket

    @property
    def room(self) -> tuple[int, int]:
        """How many more payloads and bytes the device may send; none while one of the two is not above 0."""
        match = self.match
        return UNBOUNDED if match is None or match.sender is None else match.sender.credit

    def say(self, frames: Sequence[Payload]) -> None:
        """Write to the device."""
        if frames:
            self.socket.send(frames)

    def take(self, frames: list[Payload]) -> None:
        """Take what one turn of the event loop brought."""
        for wish in self.dialect.take(frames):
            self._grant(wish)

    def _grant(self, wish: Wish) -> None:
        match wish:
            case Send():
                self._send(wish)
            case Received(total, number):
                self._hears(total, number)
            case Unmatch():
                self._part()
            case Locate(lat, lon):
                if self._may_ask():
                    self.who = self.who._replace(lat=lat, lon=lon)
                    self.location_version += 1
                    self.wire.seek(self)
            case Leave():
                self.leaving = True
                self.socket.end(NORMAL.code, "asked for")
            case Reply(frames):
                self.say(frames)
            case Refuse(code, reason):
                self.socket.end(code, reason)

    def _part(self) -> None:
        match = self.match
        # Fenced: it was meant for the match before.
        if match is not None and not match.fenced and not match.parting and self._may_ask():
            match.parting = True
            self.wire.part(self, match)

    def _may_ask(self) -> bool:
        allowed = self._allowance.take(self.wire.now())
        if not allowed:
            self.say(self.dialect.limited())
        return allowed

    def _send(self, send: Send) -> None:
        match = self.match
        if not send.payloads:
            return
        if match is None or match.sender is None or match.fenced or match.parting:
            undelivered.labels("no_match").inc(len(send.payloads))
            self.say(self.dialect.undeliverable(send))
        else:
            match.push(send)

    def _hears(self, total: int, number: int | None) -> None:
        self.acks = True
        match = self.match
        if number is not None:
            self.names_match = True
        if match is not None and (number is None or number == match.number):
            match.fenced = False
            match.received(total)

    def clog(self) -> None:
        """The socket is full: it has not taken what it was given."""
        self.clogged = True

    def unclog(self) -> None:
        """The socket has room again."""
        self.clogged = False
        if self.match is not None:
            self.match.unclogged()

    def step_away(self) -> None:
        """The socket is gone. What the device sent goes on to its peer."""
        self.away = True
        self.socket = _Nowhere()

    # -- from the bus

    def hear_frames(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        """Take a message with frames of the peer."""
        if self.match is not None and address.match == self.match.number:
            self.match.hear(address, payload)
        elif (address.match, True) <= self._heard:
            dropped.labels("stale_match").inc()
        elif len(self._early) < WINDOW_PAYLOADS:
            # The peer knows of a match that we do not: its news is on the way, or was lost.
            self._early.append((address, payload))
            self.wonder(address.match)

    def wonder(self, number: int) -> None:
        """Ask about a match, if no news of it comes."""
        self._wonders = max(self._wonders, number)
        if self.puzzled:
            self.wire.doubt(self)

    def hear_answer(self, answer: AnyAnswer) -> None:
        """Take what match-engine says of this device. News may come twice, and late: numbers order it."""
        match answer:
            case DevicePaired() if (answer.match, True) > self._heard:
                self._heard = (answer.match, True)
                self._begin(answer)
            case DevicePaired() if self._is_in(answer.match):
                assert self.match is not None
                self.match.peer_stands(answer)
            case PeerAway() if self._is_in(answer.match):
                assert self.match is not None
                self.match.peer_went(answer.peer_connection_id)
            case PeerReturned() if self._is_in(answer.match):
                assert self.match is not None
                self.match.peer_at(answer.peer_edge, answer.peer_connection_id)
            case DeviceWaiting() if (answer.since, False) > self._heard:
                self._heard = (answer.since, False)
                self.end_match("expired")
                self.say(self.dialect.waiting(self.wire.clock()))
            case DeviceUnpaired() if self._is_in(answer.match):
                self.end_match(answer.reason)
            case DeviceReplaced():
                self._replace(answer)
            case DeviceGone() if self.away:
                self.wire.forget(self)
            case DeviceGone() if not self.leaving:
                self.end_match("expired")
                self.wire.renew(self)
            case _:
                pass  # old news

    def _is_in(self, number: int) -> bool:
        return self.match is not None and self.match.number == number

    def _begin(self, paired: DevicePaired) -> None:
        self.end_match("expired")
        if paired.matched_connection_id == self.connection_id:
            self.match = Match(self, paired)
            self.say(self.dialect.matched(paired.match, paired.peer, paired.distance, self.wire.clock()))
        else:
            # Of a match that it never heard of the device has had nothing.
            known = self.who.match in (None, paired.match)
            self.match = Match(self, paired, self.who.received if known else 0)
            if paired.peer_away:
                self.say(self.dialect.away(paired.peer))
        self.wire.began(self.match)
        self.match.begin()
        early, self._early = self._early, []
        for address, payload in early:
            self.hear_frames(address, payload)

    def _replace(self, answer: DeviceReplaced) -> None:
        """A newer connection has the id, and perhaps goes on with the match."""
        if self.replaced:
            return
        self.replaced = True
        self.socket.end(REPLACED.code, "a newer connection has this id")
        if self.match is not None and self.dialect.resumable:
            self.match.supersede(answer.by, answer.edge)
        if self.away:
            self.wire.forget(self)

    def end_match(self, reason: str) -> None:
        """The match is over; the device waits."""
        if self.match is not None:
            over, self.match = self.match, None
            over.end()
            if not over.parting:
                self.say(self.dialect.left(over.peer, reason))
            self.socket.go_on()
