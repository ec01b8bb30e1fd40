"""Fold facts into the state of each device and each match.

Facts arrive in the order of the stream, but edges publish concurrently: facts from two edges about one device
may be in either order, so every rule here gives the same result in any order.

* A device has at most one live connection: the one with the larger id is newer and has replaced the other. So
  the state is the newest connection and whether it has ended.
* Payloads or the end of a match may come before its beginning.
* Payloads of a match are numbered in each direction. A span that repeats numbers counts only what is new.
  Facts of earlier versions have no numbers: in a direction with any, nothing is known to be missing.
* A claim is pending until all that it says was delivered is counted, or until it is settled: then what is not
  counted is unaccounted, until a late count.

A fact is counted once: a fact at or before the ledger's position has been folded already.
"""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Literal

import msgspec

from cloudmatch_bus.contract.deliveries import Claim, Span
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceLeft,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)
from cloudmatch_journal.core import coverage
from cloudmatch_journal.core.sizes import part

Kind = Literal["connected", "left", "matched", "unmatched", "delivered", "claimed", "reported"]  # of event

VERSION = 3  # of the rules: a snapshot saved under other rules is discarded, and the facts are folded again
UNNUMBERED = 2  # the last version whose facts counted payloads without their numbers


class DeviceState(msgspec.Struct, kw_only=True):
    """The state of one device."""

    app: str
    device: str
    connection_id: int = msgspec.field(default=0, name="session")  # of the newest connection
    connected: bool = False  # whether that connection is open
    connections_reported: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    matches: int = 0
    last_seen: int = 0  # ms since 1970

    @property
    def connections_open(self) -> int:
        """Connections open now: the device's own, and those reported by 2019 clients."""
        return int(self.connected) + self.connections_reported


class Direction(msgspec.Struct, kw_only=True):
    """What one device of a match sent to the other."""

    sender: str
    receiver: str
    payloads: int = 0
    bytes: int = 0
    counted: list[int] = []  # the payloads of all spans (`coverage.Numbers`)
    unnumbered: bool = False  # others were counted without their numbers
    settled: int = 0  # payloads before this number were delivered, and whoever knew their sizes has said so
    unaccounted: int = 0  # of them not counted
    awaited: int = 0  # once payloads before this number are counted, a claim is not pending any more; 0: none


class MatchState(msgspec.Struct, kw_only=True):
    """The state of one match."""

    match: int
    app: str
    devices: tuple[str, str]
    distance: float | None = None  # metres
    made_at: int | None = None  # ms since 1970
    ended_at: int | None = None
    ended_by: str | None = None  # the device that ended it
    reason: str | None = None
    position: int = 0  # of the last fact about it
    directions: list[Direction] = msgspec.field(name="ways")


class PendingClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, and the fact that it was part of."""

    position: int
    app: str
    at: int  # ms since 1970
    claim: Claim


class Snapshot(msgspec.Struct, kw_only=True):
    """A ledger as it is saved."""

    version: int = VERSION
    position: int = 0
    devices: list[DeviceState] = []
    matches: list[MatchState] = []
    claims: list[PendingClaim] = []
    repeated: int = 0  # payloads that facts counted again
    unaccounted: int = 0  # payloads


class Ledger:
    """The folded facts up to a position."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        snapshot = snapshot or Snapshot()
        self.position = snapshot.position  # of the last fact folded; 0: none
        self.repeated = snapshot.repeated  # payloads that facts counted again
        self.unaccounted = snapshot.unaccounted  # payloads that were delivered and that nobody has counted
        self._devices: dict[str, dict[str, DeviceState]] = {}  # by app
        for device in snapshot.devices:
            self._devices.setdefault(device.app, {})[device.device] = device
        self._matches = {m.match: m for m in snapshot.matches}
        self._claims: dict[int, list[PendingClaim]] = {}  # by match
        for pending in snapshot.claims:
            self._claims.setdefault(pending.claim.match, []).append(pending)

    def __len__(self) -> int:
        """Return the number of known devices and matches."""
        return sum(map(len, self._devices.values())) + len(self._matches)

    @classmethod
    def decode(cls, saved: bytes, *, any_version: bool = False) -> "Ledger":
        """Restore a ledger from a snapshot.

        Args:
            any_version: accept it whatever the version of its rules: its facts may have been dropped.

        Raises:
            ValueError: it cannot be read, or is of other rules.
        """
        snapshot = msgspec.json.decode(saved, type=Snapshot)
        if snapshot.version != VERSION and not any_version:
            raise ValueError(f"made by version {snapshot.version} of the rules, not {VERSION}")
        if snapshot.version <= UNNUMBERED:
            for direction in chain.from_iterable(m.directions for m in snapshot.matches):
                direction.unnumbered = direction.payloads > 0
        return cls(snapshot)

    def encode(self) -> bytes:
        """Encode a snapshot as JSON."""
        return msgspec.json.encode(
            Snapshot(
                position=self.position,
                devices=[each for devices in self._devices.values() for each in devices.values()],
                matches=list(self._matches.values()),
                claims=list(self.claims),
                repeated=self.repeated,
                unaccounted=self.unaccounted,
            )
        )

    def device(self, app: str, device: str) -> DeviceState | None:
        """Return the state of a device; None if no fact names it."""
        return self._devices.get(app, {}).get(device)

    def match(self, match: int) -> MatchState | None:
        """Return the state of a match; None if no fact names it."""
        return self._matches.get(match)

    def forget(self, before: int) -> int:
        """Forget ended matches whose facts are all before this position; return how many."""
        ended = [m.match for m in self._matches.values() if m.ended_at is not None and m.position < before]
        for match in ended:
            del self._matches[match]
            self._claims.pop(match, None)
        return len(ended)

    @property
    def claims(self) -> Iterator[PendingClaim]:
        """The pending claims."""
        return chain.from_iterable(self._claims.values())

    @property
    def pending(self) -> int:
        """Number of pending claims."""
        return sum(map(len, self._claims.values()))

    def uncounted(self, pending: PendingClaim) -> list[coverage.Range]:
        """Return those payloads of a pending claim that are not counted and whose sizes are known."""
        claim = pending.claim
        direction = _direction(self._matches[claim.match], claim.sender)
        assert direction is not None
        if claim.span is None:
            return []
        return coverage.missing(direction.counted, claim.span.first, claim.span.end)

    def settle(self, pending: PendingClaim) -> None:
        """End a pending claim: those of its payloads that are not counted are unaccounted."""
        match = self._matches[pending.claim.match]
        direction = _direction(match, pending.claim.sender)
        assert direction is not None
        self._keep(match, direction, [each for each in self._claims.get(match.match, ()) if each != pending])
        if match.made_at is not None:  # else earlier counts may not be known
            direction.settled = max(direction.settled, pending.claim.delivered)
            self._review(match, direction)

    def fold(self, position: int, fact: AnyFact) -> bool:
        """Fold a fact; False if it has been folded already."""
        if position <= self.position:
            return False
        self.position = position
        if isinstance(fact, DeliveriesCounted):
            self._counted(fact)
            return True
        for name in fact.devices:
            state = self._state(fact.app, name)
            state.last_seen = max(state.last_seen, fact.at)
        match fact:
            case DeviceConnected():
                self._connected(fact)
            case DeviceLeft():
                self._left(fact)
            case MatchMade():
                self._made(fact)
            case MatchEnded():
                self._ended(fact)
            case PayloadsDelivered():
                self._delivered(fact)
            case DeliveriesClaimed():
                self._claimed(position, fact)
            case AmountReported():  # pragma: no branch  # there are no others
                self._reported(fact)
        return True

    def _state(self, app: str, device: str) -> DeviceState:
        devices = self._devices.setdefault(app, {})
        state = devices.get(device)
        if state is None:
            state = devices[device] = DeviceState(app=app, device=device)
        return state

    def _pair(self, app: str, match: int, device: str, peer: str) -> MatchState:
        state = self._matches.get(match)
        if state is None:
            directions = [Direction(sender=device, receiver=peer), Direction(sender=peer, receiver=device)]
            state = MatchState(match=match, app=app, devices=(device, peer), directions=directions)
            self._matches[match] = state
        state.position = self.position
        return state

    def _connected(self, fact: DeviceConnected) -> None:
        state = self._state(fact.app, fact.device)
        if fact.connection_id > state.connection_id:
            state.connection_id, state.connected = fact.connection_id, True

    def _left(self, fact: DeviceLeft) -> None:
        state = self._state(fact.app, fact.device)
        if fact.connection_id >= state.connection_id:
            state.connection_id, state.connected = fact.connection_id, False

    def _made(self, fact: MatchMade) -> None:
        state = self._pair(fact.app, fact.match, fact.device, fact.peer)
        if state.made_at is not None:
            return
        state.made_at, state.distance = fact.at, fact.distance
        for name in fact.devices:
            self._state(fact.app, name).matches += 1

    def _ended(self, fact: MatchEnded) -> None:
        state = self._pair(fact.app, fact.match, fact.device, fact.peer)
        if state.ended_at is None:
            state.ended_at, state.ended_by, state.reason = fact.at, fact.device, fact.reason

    def _delivered(self, fact: PayloadsDelivered) -> None:
        payloads, total = len(fact.sizes), sum(fact.sizes)
        _add(self._state(fact.app, fact.sender), self._state(fact.app, fact.receiver), payloads, total)
        match = self._pair(fact.app, fact.match, fact.sender, fact.receiver)
        if (direction := _direction(match, fact.sender)) is not None:
            direction.payloads += payloads
            direction.bytes += total
            direction.unnumbered = True
            self._review(match, direction)

    def _counted(self, fact: DeliveriesCounted) -> None:
        # Most facts are these, and each has many spans: this loop is the cost of the ledger.
        app, at, position = fact.app, fact.at, self.position
        devices, matches = self._devices.setdefault(app, {}), self._matches
        for span in fact.spans:
            sender_id, receiver_id = span.sender, span.receiver
            payloads, total = span.payloads, span.bytes
            if span.match and receiver_id:
                match = matches.get(span.match) or self._pair(app, span.match, sender_id, receiver_id)
                match.position = position
                for direction in match.directions:
                    if direction.sender == sender_id:
                        counted, first = direction.counted, span.first
                        if counted and counted[-1] == first:
                            counted[-1] = first + payloads
                        else:
                            payloads, total = self._cover(direction, span)
                        direction.payloads += payloads
                        direction.bytes += total
                        if direction.awaited or first < direction.settled:
                            self._review(match, direction)
                        break
            sender = devices.get(sender_id) or self._state(app, sender_id)
            sender.messages_sent += payloads
            sender.bytes_sent += total
            if at > sender.last_seen:
                sender.last_seen = at
            if receiver_id:  # else an amount that was reported
                receiver = devices.get(receiver_id) or self._state(app, receiver_id)
                receiver.messages_received += payloads
                receiver.bytes_received += total
                if at > receiver.last_seen:
                    receiver.last_seen = at

    def _cover(self, direction: Direction, span: Span) -> tuple[int, int]:
        """Mark a span as counted; return how many payloads and bytes of it are new."""
        new = coverage.missing(direction.counted, span.first, span.end)
        coverage.add(direction.counted, span.first, span.end)
        payloads = sum(end - first for first, end in new)
        if payloads == span.payloads:
            return payloads, span.bytes
        self.repeated += span.payloads - payloads
        return payloads, sum(part(span, *each).bytes for each in new)

    def _claimed(self, position: int, fact: DeliveriesClaimed) -> None:
        for claim in fact.claims:
            match = self._pair(fact.app, claim.match, claim.sender, claim.receiver)
            direction = _direction(match, claim.sender)
            end = _end(claim)
            if direction is not None and end > _all_counted_before(direction):
                pending = PendingClaim(position=position, app=fact.app, at=fact.at, claim=claim)
                self._claims.setdefault(match.match, []).append(pending)
                direction.awaited = min(direction.awaited or end, end)

    def _keep(self, match: MatchState, direction: Direction, claims: list[PendingClaim]) -> None:
        """Let these be the pending claims of a match, now that others in this direction are not."""
        ends = (_end(each.claim) for each in claims if each.claim.sender == direction.sender)
        direction.awaited = min(ends, default=0)
        self._claims[match.match] = claims
        if not claims:
            del self._claims[match.match]

    def _review(self, match: MatchState, direction: Direction) -> None:
        """Bring claims and unaccounted payloads up to date with what is counted."""
        missing = coverage.count_missing(direction.counted, direction.settled)
        unaccounted = 0 if direction.unnumbered else missing
        self.unaccounted += unaccounted - direction.unaccounted
        direction.unaccounted = unaccounted
        end = _all_counted_before(direction)
        if 0 < direction.awaited <= end:
            claims = self._claims[match.match]
            others = [e for e in claims if e.claim.sender != direction.sender or _end(e.claim) > end]
            self._keep(match, direction, others)

    def _reported(self, fact: AmountReported) -> None:
        state = self._state(fact.app, fact.device)
        if fact.event_type == "bytesSent":
            state.bytes_sent += fact.amount
        else:
            state.connections_reported += fact.amount


def _direction(match: MatchState, sender: str) -> Direction | None:
    return next((each for each in match.directions if each.sender == sender), None)


def _add(sender: DeviceState, receiver: DeviceState, payloads: int, total: int) -> None:
    sender.messages_sent += payloads
    sender.bytes_sent += total
    receiver.messages_received += payloads
    receiver.bytes_received += total


def _end(claim: Claim) -> int:
    """Return the number after that of the last payload that a claim says was delivered."""
    return claim.delivered if claim.span is None else max(claim.delivered, claim.span.end)


def _all_counted_before(direction: Direction) -> float:
    """Return the number of the first payload that may not be counted."""
    if direction.unnumbered:
        return math.inf
    return direction.counted[1] if direction.counted and direction.counted[0] == 0 else 0
