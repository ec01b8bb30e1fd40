"""One connection of a device: its match, its commands, and the updates of match-engine about it."""

import contextlib
from collections.abc import Sequence

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceGone,
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
)
from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.stay import FOREVER, Stay
from cloudmatch_edge.dialects.base import (
    Acknowledge,
    Close,
    Command,
    Denial,
    Dialect,
    Leave,
    Locate,
    Renew,
    Reply,
    Send,
    SocketFrame,
    Unmatch,
)
from cloudmatch_edge.dialects.close_codes import NORMAL, POLICY_VIOLATION, REPLACED, TOKEN_EXPIRED, CloseCode
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.inbound import MalformedBatchError, messages_dropped
from cloudmatch_edge.relay.match import Match
from cloudmatch_edge.relay.outbound import payloads_undelivered
from cloudmatch_edge.relay.ports import BusPort, Matchmaking, MatchRegistry, Socket
from cloudmatch_edge.relay.rate_limit import TokenBucket
from cloudmatch_edge.relay.sender import WINDOW_BYTES, WINDOW_PAYLOADS

UNLIMITED = (1 << 30, 1 << 30)  # payloads and bytes: without a match nothing is kept
NEVER_SYNCED = (0, False)
CONTROL_BURST = 5.0  # s whose control frames may come at once
COMMANDS = 5.0, 20.0  # that cost the pool something: per second over time, and at once


class NoSocket:
    """The socket of a disconnected device."""

    reading = False
    writable = False
    overfull = True

    def write(self, frames: Sequence[SocketFrame]) -> None:
        pass

    def host_took_all(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass

    def close(self, code: CloseCode, reason: str) -> None:
        pass


class Device:
    """A connection of a device, on this edge.

    Args:
        connection_id: µs since 1970 when the client asked for the connection.
        stay: what it may do, and until when.
        token: of the session; "" if it cannot be resumed.
        grace: s for which the device may be disconnected.
        resume: whether this connection resumes the session.
        asked_at: when the client asked for the connection: s, as `BusPort.now`.
        control: how many frames a second may only ask for an answer; 0: any.
    """

    def __init__(
        self,
        who: Parameters,
        connection_id: int,
        socket: Socket,
        dialect: Dialect,
        bus: BusPort,
        matches: MatchRegistry[Match],
        matchmaking: Matchmaking["Device", Match],
        *,
        stay: Stay = FOREVER,
        token: str = "",
        grace: float = 0.0,
        resume: bool = False,
        asked_at: float = 0.0,
        control: float = 0.0,
    ) -> None:
        self.who = who
        self.connection_id = connection_id
        self.socket = socket
        self.dialect = dialect
        self.stay = stay
        self.token = token
        self.grace = grace
        self.resume = resume
        self.asked_at = asked_at
        self.subject = subjects.dn(who.app, bus.name, who.id)
        self.match: Match | None = None
        self.location_version = 0  # how often it has moved
        self.replaced = False  # a newer connection has the id
        self.leaving = False  # for good
        self.disconnected = False  # the socket is gone; the device may return by another
        self.sends_acks = False  # it has acknowledged something
        self.names_match = False  # and named the match
        # Version of the last update: (revision, is_match). A device waiting since revision r is matched as
        # match r, so (r, False) sorts just before (r, True).
        self.version = NEVER_SYNCED
        self._bus = bus
        self._matches = matches
        self._matchmaking = matchmaking
        self._commands = TokenBucket(*COMMANDS)
        self._controls = TokenBucket(control, CONTROL_BURST * control) if control else None
        # batches of a match that match-engine has not announced yet
        self._early: list[tuple[subjects.ReplyAddress, bytes]] = []
        self._early_bytes = 0
        self._latest_match = 0  # the latest one in any message of another edge

    # -- state

    @property
    def never_synced(self) -> bool:
        """Whether match-engine has not sent its state yet."""
        return self.version == NEVER_SYNCED

    def came_later(self, answer: DeviceReplaced) -> bool:
        """Whether the client asked for this connection when the one that has the id was known already.

        Their ids do not say so if the clocks of their edges differ; each duration is measured by one clock.
        """
        waited = self._bus.now() - self.asked_at
        if answer.age is None:  # it has left already, or the worker is of an earlier version
            return self.never_synced and answer.by > self.connection_id + waited * 1e6
        return self.never_synced and answer.age > waited

    @property
    def needs_resync(self) -> bool:
        """Whether other edges sent messages of a match that match-engine has not announced."""
        return (self._latest_match, True) > self.version

    @property
    def acks_readable(self) -> bool:
        """Whether the device sends acks, and they are read."""
        return self.sends_acks and self.socket.reading

    @property
    def credit(self) -> tuple[int, int]:
        """How many more payloads and bytes the device may send; none while either is not positive."""
        match = self.match
        return UNLIMITED if match is None or not match.outbound.started else match.outbound.sender.credit

    # -- from the socket

    def write(self, frames: Sequence[SocketFrame]) -> None:
        """Write to the device."""
        if frames:
            self.socket.write(frames)

    def on_frames(self, frames: list[SocketFrame]) -> None:
        """Execute what one turn of the event loop brought."""
        for command in self.dialect.parse(frames):
            self._execute(command)

    def on_drained(self) -> None:
        """Note that the socket has taken what was written."""
        if self.match is not None:
            self.match.on_drained()

    def on_controls(self, count: int) -> None:
        """Account for frames that only ask for an answer: pings, pongs, messages that are none."""
        if self._controls is not None and not self._controls.acquire(self._bus.now(), count):
            self.socket.close(POLICY_VIOLATION, "too many control frames")

    def check_token(self, now: float) -> None:
        """Close the connection once its token has expired; ask for another one before."""
        if self.stay.is_over(now):
            self.socket.close(TOKEN_EXPIRED, "token expired")
        elif (left := self.stay.ask(now)) is not None:
            self.write(self.dialect.token_expires(left))

    def disconnect(self) -> None:
        """Note that the socket is gone. What the device sent is still delivered to its peer."""
        self.disconnected = True
        self.socket = NoSocket()
        if self.match is not None:
            self.match.disconnect()

    # -- commands

    def _execute(self, command: Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Acknowledge(total, number):
                self._acknowledge(total, number)
            case Unmatch():
                self._unmatch()
            case Locate(lat, lon):
                self._locate(lat, lon)
            case Renew(token):
                self._renew(token)
            case Leave():
                self.leaving = True
                self.socket.close(NORMAL, "asked for")
            case Reply(frames):
                self.on_controls(1)
                self.write(frames)
            case Close(code, reason):  # pragma: no branch  # there are no other commands
                self.socket.close(code, reason)

    def _send(self, send: Send) -> None:
        match = self.match
        if not send.payloads:
            return
        if match is None or not match.accepts_payloads:
            payloads_undelivered.labels("no_match").inc(len(send.payloads))
            self.write(self.dialect.undeliverable(send))
        else:
            match.push(send)

    def _acknowledge(self, total: int, number: int | None) -> None:
        self.sends_acks = True
        if number is not None:
            self.names_match = True
        match = self.match
        if match is not None and (number is None or number == match.number):
            match.on_device_ack(total)

    def _unmatch(self) -> None:
        if self.match is not None and self.match.may_unmatch and self._within_rate_limit():
            self.leave_match()

    def leave_match(self) -> None:
        """Have the match ended; until it is, no payload is for it."""
        assert self.match is not None
        self.match.unmatching = True
        self._matchmaking.leave_match(self, self.match)

    def _locate(self, lat: float, lon: float) -> None:
        if not self._within_rate_limit():
            return
        if not self.stay.permit.includes(lat, lon):
            self.write(self.dialect.denied("forbidden", "the token allows another place only"))
            return
        self.who = self.who._replace(lat=lat, lon=lon)
        self.location_version += 1
        self._matchmaking.seek(self)

    def _renew(self, token: str) -> None:
        if not self._within_rate_limit():
            return
        try:
            self.who = self.stay.renew(token, self.who, self._bus.now(), self._bus.clock() / 1000)
        except DeniedError as denied:
            code: Denial = "forbidden" if denied.status == 403 else "unauthorized"
            self.write(self.dialect.denied(code, denied.detail))
        else:
            self.write(self.dialect.renewed(self.stay.permit.expires))

    def _within_rate_limit(self) -> bool:
        allowed = self._commands.acquire(self._bus.now())
        if not allowed:
            self.write(self.dialect.rate_limited())
        return allowed

    # -- from the bus

    def on_batch(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        """Deliver a batch of the peer; keep it if its match is not announced yet.

        Raises:
            MalformedBatchError: it cannot be split into payloads.
        """
        match = self.match
        if match is not None and address.match == match.number:
            match.on_batch(address, payload)
        elif (address.match, True) <= self.version:
            messages_dropped.labels("stale_match").inc()
        elif len(self._early) < WINDOW_PAYLOADS and self._early_bytes < WINDOW_BYTES:
            # Its match was not announced here: the update is on its way, or was lost.
            self._early.append((address, payload))
            self._early_bytes += len(payload)
            self.on_unannounced_match(address.match)

    def on_unannounced_match(self, number: int) -> None:
        """Have match-engine asked about a match, unless its update arrives first."""
        self._latest_match = max(self._latest_match, number)
        if self.needs_resync:
            self._matchmaking.verify(self)

    def on_answer(self, answer: AnyAnswer) -> None:
        """Apply an answer or update of match-engine. It may come twice, and late: versions order it."""
        match answer:
            case DeviceReplaced():
                self.supersede(answer.by, answer.edge)
            case DevicePaired() if (answer.match, True) > self.version:
                self._begin(answer)
            case DeviceWaiting():
                if (answer.since, False) > self.version:
                    self.version = answer.since, False
                    self.end_match("expired")
                    self.write(self.dialect.waiting(self._bus.clock()))
            case DeviceGone():
                self._on_gone()
            case _:
                if self.match is not None and self.match.number == answer.match:
                    self._update(self.match, answer)

    def _update(self, match: Match, answer: DevicePaired | PeerAway | PeerReturned | DeviceUnpaired) -> None:
        """Apply an answer about the present match."""
        match answer:
            case DevicePaired():
                match.on_paired(answer)
            case PeerAway():
                match.on_peer_away(answer.peer_connection_id, answer.peer_revision)
            case PeerReturned():
                match.on_peer_returned(answer.peer_edge, answer.peer_connection_id, answer.peer_revision)
            case DeviceUnpaired():  # pragma: no branch  # there are no others
                self.end_match(answer.reason)

    def _begin(self, paired: DevicePaired) -> None:
        self.version = paired.match, True
        self.end_match("expired")
        if paired.matched_connection_id == self.connection_id:
            match = Match(self, paired, self._bus, self._matches)
            self.write(self.dialect.matched(paired.match, paired.peer, paired.distance, self._bus.clock()))
        else:
            # A count says nothing about a match that it does not name.
            received = self.who.received if self.who.match == paired.match else 0
            match = Match(self, paired, self._bus, self._matches, received)
        self.match = match
        match.begin()
        early, self._early, self._early_bytes = self._early, [], 0
        for address, payload in early:
            with contextlib.suppress(MalformedBatchError):  # counted
                self.on_batch(address, payload)

    def _on_gone(self) -> None:
        """match-engine does not have the device (any more)."""
        if self.disconnected:
            self._matchmaking.forget(self)
        elif not self.leaving:
            self.end_match("expired")
            self._matchmaking.rejoin(self)

    def resync(self) -> None:
        """Have match-engine asked for the state of the device."""
        self._matchmaking.seek(self)

    def reset(self) -> None:
        """Start over: match-engine's revisions have restarted, so versions so far mean nothing."""
        self.end_match("expired")
        self.version = NEVER_SYNCED
        self._latest_match = 0
        self._early.clear()
        self._early_bytes = 0

    def supersede(self, connection_id: int, edge: str) -> None:
        """Give way to a newer connection, which may resume the match; 0 and "" if it is unknown."""
        if self.replaced:
            return
        self.replaced = True
        self.socket.close(REPLACED, "a newer connection has this id")
        if self.match is not None and self.dialect.resumable:
            self.match.supersede(connection_id, edge)
        if self.disconnected:
            self._matchmaking.forget(self)

    def end_match(self, reason: str) -> None:
        """End the match; the device waits."""
        if self.match is None:
            return
        over, self.match = self.match, None
        over.end()
        if not over.unmatching or over.silent:
            self.write(self.dialect.peer_left(over.peer.id, reason))
        self.socket.resume_reading()
