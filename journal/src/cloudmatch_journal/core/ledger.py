"""Fold facts into the state of each device and each match.

Facts arrive in the order of the stream, but edges publish concurrently: facts from two edges about one device
may be in either order, so every rule here gives the same result in any order.

* A device has at most one live connection: the one with the larger id is newer and has replaced the other. So
  the state is the newest connection and whether it has ended.
* Clocks of edges differ and jump, so times are shown and never compared: a device was last seen when the last
  fact about it says, and only ids and numbers decide which of two facts is newer.
* Payloads or the end of a match may come before its beginning.
* Payloads of a match are numbered in each direction. A span that repeats numbers counts only what is new.
  Facts of earlier versions have no numbers: in a direction with any, nothing is known to be missing.
* A claim is pending until all that it says was delivered is counted, or until it is settled: then what is not
  counted is unaccounted, until a late count.

A fact is counted once: a fact at or before the ledger's position has been folded already.
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Literal

import msgspec

from cloudmatch_bus.contract.deliveries import Span
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceForgotten,
    DeviceLeft,
    FactsLost,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)
from cloudmatch_journal.core import coverage
from cloudmatch_journal.core.claims import Claims, PendingClaim
from cloudmatch_journal.core.erasure import PREFIX, erasure
from cloudmatch_journal.core.sizes import part
from cloudmatch_journal.core.states import (
    UNNUMBERED,
    VERSION,
    DeviceState,
    Direction,
    Loss,
    MatchState,
    Snapshot,
)

Kind = Literal[
    "connected", "left", "matched", "unmatched", "delivered", "claimed", "reported", "forgotten", "lost"
]  # of event


MOST = 200_000  # devices, and matches


class Ledger:
    """The folded facts up to a position."""

    def __init__(self, snapshot: Snapshot | None = None, most: int = MOST) -> None:
        snapshot = snapshot or Snapshot()
        self._most = most  # devices, and matches
        self.position = snapshot.position  # of the last fact folded; 0: none
        self.repeated = snapshot.repeated  # payloads that facts counted again
        self.unaccounted = snapshot.unaccounted  # payloads that were delivered and that nobody has counted
        self._devices: dict[str, dict[str, DeviceState]] = {}  # by app
        for device in snapshot.devices:
            self._devices.setdefault(device.app, {})[device.device] = device
        self._count = len(snapshot.devices)
        self._matches = {m.match: m for m in snapshot.matches}
        self._room = most, most  # numbers of devices and matches beyond which to look for some that may go
        self._claims = Claims(snapshot.claims)
        self._reports = snapshot.reports
        self.losses = snapshot.losses  # facts that the journal does not have
        self.erasures = snapshot.erasures  # of devices whose states are gone, from segments

    def __len__(self) -> int:
        """Return the number of known devices and matches."""
        return self._count + len(self._matches)

    @classmethod
    def decode(cls, saved: bytes, *, any_version: bool = False, most: int = MOST) -> "Ledger":
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
        return cls(snapshot, most)

    def encode(self) -> bytes:
        """Encode a snapshot as JSON."""
        return msgspec.json.encode(
            Snapshot(
                position=self.position,
                devices=[each for devices in self._devices.values() for each in devices.values()],
                matches=list(self._matches.values()),
                claims=list(self._claims),
                repeated=self.repeated,
                unaccounted=self.unaccounted,
                reports=self._reports,
                losses=self.losses,
                erasures=self.erasures,
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
        ended = [m for m in self._matches.values() if m.ended_at is not None and m.position < before]
        for match in ended:
            del self._matches[match.match]
            self._claims.forget(match.match, match.devices)
        return len(ended)

    def _make_room(self) -> None:
        """Let states go until there is room for a tenth more; connections and matches that are open stay.

        Whoever folds the same facts lets the same go at the same one.
        """
        share = self._most // 10
        devices = [d for some in self._devices.values() for d in some.values() if not d.connected]
        devices.sort(key=lambda each: each.last_seen)
        for device in devices[: max(0, self._count + share - self._most)]:
            del self._devices[device.app][device.device]
            self._count -= 1
        self._devices = {app: some for app, some in self._devices.items() if some}
        matches = [m for m in self._matches.values() if m.ended_at is not None]
        matches.sort(key=lambda each: each.position)
        if gone := matches[: max(0, len(self._matches) + share - self._most)]:
            self.forget(gone[-1].position + 1)
        self._room = max(self._most, self._count + share), max(self._most, len(self._matches) + share)

    @property
    def claims(self) -> Claims:
        """The pending claims."""
        return self._claims

    def uncounted(self, pending: PendingClaim) -> list[coverage.Range]:
        """Return those payloads of a pending claim that are not counted and whose sizes are known."""
        span = pending.claim.span
        direction = _direction(self._matches[pending.claim.match], pending.claim.sender)
        assert direction is not None
        return [] if span is None else coverage.missing(direction.counted, span.first, span.end)

    def settle(self, claims: Iterable[PendingClaim]) -> None:
        """End pending claims: those of their payloads that are not counted are unaccounted."""
        directions: dict[tuple[int, str], set[PendingClaim]] = {}
        for pending in claims:
            directions.setdefault(pending.direction, set()).add(pending)
        for (number, sender), ended in directions.items():
            match = self._matches[number]
            direction = _direction(match, sender)
            assert direction is not None
            direction.awaited = self._claims.remove(number, sender, ended)
            if match.made_at is not None:  # else earlier counts may not be known
                direction.settled = max(direction.settled, *(each.claim.delivered for each in ended))
                self._account(direction, coverage.count_missing(direction.counted, direction.settled))

    def fold(self, position: int, fact: AnyFact) -> bool:
        """Fold a fact; False if it has been folded already."""
        if position <= self.position:
            return False
        self.position = position
        if self._count > self._room[0] or len(self._matches) > self._room[1]:
            self._make_room()
        if isinstance(fact, DeliveriesCounted):
            self._counted(fact)
            return True
        if isinstance(fact, DeviceForgotten):
            self._forgotten(fact)
            return True
        for name in fact.devices:
            state = self._state(fact.app, name)
            state.last_seen = fact.at
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
            case AmountReported():
                self._reported(fact)
            case _:
                self._lost(fact)
        return True

    def _state(self, app: str, device: str) -> DeviceState:
        devices = self._devices.setdefault(app, {})
        state = devices.get(device)
        if state is None:
            state = devices[device] = DeviceState(app=app, device=device)
            self._count += 1
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
            self._account(direction, 0)
            if direction.awaited:
                direction.awaited = self._claims.counted(match.match, fact.sender, math.inf)

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
                    if direction.sender == sender_id or (
                        direction.receiver == receiver_id and direction.sender.startswith(PREFIX)
                    ):
                        counted, first = direction.counted, span.first
                        if counted and counted[-1] == first and first >= direction.settled:
                            counted[-1] = first + payloads
                        else:
                            payloads, total = self._cover(direction, span)
                        direction.payloads += payloads
                        direction.bytes += total
                        if 0 < direction.awaited <= _all_counted_before(direction):
                            direction.awaited = self._claims.counted(span.match, direction.sender, counted[1])
                        break
            sender = devices.get(sender_id) or self._state(app, sender_id)
            sender.messages_sent += payloads
            sender.bytes_sent += total
            sender.last_seen = at
            if receiver_id:  # else an amount that was reported
                receiver = devices.get(receiver_id) or self._state(app, receiver_id)
                receiver.messages_received += payloads
                receiver.bytes_received += total
                receiver.last_seen = at

    def _cover(self, direction: Direction, span: Span) -> tuple[int, int]:
        """Mark a span as counted; return how many payloads and bytes of it are new."""
        new = coverage.missing(direction.counted, span.first, span.end)
        coverage.add(direction.counted, span.first, span.end)
        if direction.unaccounted:
            late = sum(max(0, min(end, direction.settled) - first) for first, end in new)
            self._account(direction, direction.unaccounted - late)
        payloads = sum(end - first for first, end in new)
        if payloads == span.payloads:
            return payloads, span.bytes
        self.repeated += span.payloads - payloads
        return payloads, sum(part(span, *each).bytes for each in new)

    def _claimed(self, position: int, fact: DeliveriesClaimed) -> None:
        for claim in fact.claims:
            match = self._pair(fact.app, claim.match, claim.sender, claim.receiver)
            direction = _direction(match, claim.sender)
            pending = PendingClaim(position=position, app=fact.app, at=fact.at, claim=claim)
            if direction is not None and pending.end > _all_counted_before(direction):
                direction.awaited = self._claims.add(pending)

    def _account(self, direction: Direction, unaccounted: int) -> None:
        """Set how many payloads of a direction are unaccounted; none if some were counted without numbers."""
        unaccounted = 0 if direction.unnumbered else unaccounted
        self.unaccounted += unaccounted - direction.unaccounted
        direction.unaccounted = unaccounted

    def _reported(self, fact: AmountReported) -> None:
        if fact.number:
            known = self._reports.setdefault(f"{fact.incarnation}.{fact.source}", [])
            if not coverage.missing(known, fact.number, fact.number + 1):
                return  # stored twice: JetStream knows it again for two minutes only
            coverage.add(known, fact.number, fact.number + 1)
        state = self._state(fact.app, fact.device)
        if fact.event_type == "bytesSent":
            state.bytes_sent += fact.amount
        else:
            state.connections_reported += fact.amount

    def _forgotten(self, fact: DeviceForgotten) -> None:
        """Let the state of a device go; in its matches, another name takes its place."""
        if self._devices.get(fact.app, {}).pop(fact.device, None) is not None:
            self._count -= 1
        if (asked := erasure(self.position, fact)) is None:
            return  # its facts name nobody either
        self.erasures.append(asked)
        for match in self._matches.values():
            if match.app == fact.app and fact.device in match.devices:
                one, other = (asked.pseudonym if each == fact.device else each for each in match.devices)
                match.devices, match.distance = (one, other), match.distance and 0.0
                if match.ended_by == fact.device:
                    match.ended_by = asked.pseudonym
                for direction in match.directions:
                    _rename(direction, fact.device, asked.pseudonym)
                self._claims.rename(match.match, fact.device, asked.pseudonym)

    def knows_loss(self, low: int, high: int, reason: str) -> bool:
        """Whether a fact has said that facts between these positions are lost."""
        return any((each.low, each.reason) == (low, reason) and each.high >= high for each in self.losses)

    def _lost(self, fact: FactsLost) -> None:
        if not self.knows_loss(fact.low, fact.high, fact.reason):
            self.losses.append(Loss(low=fact.low, high=fact.high, missing=fact.missing, reason=fact.reason))


def _direction(match: MatchState, sender: str) -> Direction | None:
    return next((each for each in match.directions if each.sender == sender), None)


def _rename(direction: Direction, device: str, name: str) -> None:
    if direction.sender == device:
        direction.sender = name
    else:
        direction.receiver = name


def _add(sender: DeviceState, receiver: DeviceState, payloads: int, total: int) -> None:
    sender.messages_sent += payloads
    sender.bytes_sent += total
    receiver.messages_received += payloads
    receiver.bytes_received += total


def _all_counted_before(direction: Direction) -> float:
    """Return the number of the first payload that may not be counted."""
    if direction.unnumbered:
        return math.inf
    return direction.counted[1] if direction.counted and direction.counted[0] == 0 else 0
