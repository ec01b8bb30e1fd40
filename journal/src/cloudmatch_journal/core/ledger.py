"""Fold facts into the state of each device and each match.

Facts arrive in the order of the stream, but edges publish concurrently: facts from two edges about one device
may be in either order, so every rule here gives the same result in any order.

* A device has at most one live connection: the one with the larger id is newer and has replaced the other. So
  the state is the newest connection and whether it has ended.
* Payloads or the end of a match may come before its beginning.

A fact is counted once: a fact at or before the ledger's position has been folded already.
"""

from typing import Literal

import msgspec

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

Kind = Literal["connected", "left", "matched", "unmatched", "delivered", "claimed", "reported"]  # of event

VERSION = 2  # of the rules: a snapshot saved under other rules is discarded, and the facts are folded again


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


class Snapshot(msgspec.Struct, kw_only=True):
    """A ledger as it is saved."""

    version: int = VERSION
    position: int = 0
    devices: list[DeviceState] = []
    matches: list[MatchState] = []


class Ledger:
    """The folded facts up to a position."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        snapshot = snapshot or Snapshot()
        self.position = snapshot.position  # of the last fact folded; 0: none
        self._devices = {(d.app, d.device): d for d in snapshot.devices}
        self._matches = {m.match: m for m in snapshot.matches}

    def __len__(self) -> int:
        """Return the number of known devices and matches."""
        return len(self._devices) + len(self._matches)

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
        return cls(snapshot)

    def encode(self) -> bytes:
        """Encode a snapshot as JSON."""
        return msgspec.json.encode(
            Snapshot(
                position=self.position,
                devices=list(self._devices.values()),
                matches=list(self._matches.values()),
            )
        )

    def device(self, app: str, device: str) -> DeviceState | None:
        """Return the state of a device; None if no fact names it."""
        return self._devices.get((app, device))

    def match(self, match: int) -> MatchState | None:
        """Return the state of a match; None if no fact names it."""
        return self._matches.get(match)

    def forget(self, before: int) -> int:
        """Forget ended matches whose facts are all before this position; return how many."""
        ended = [m.match for m in self._matches.values() if m.ended_at is not None and m.position < before]
        for match in ended:
            del self._matches[match]
        return len(ended)

    def fold(self, position: int, fact: AnyFact) -> bool:
        """Fold a fact; False if it has been folded already."""
        if position <= self.position:
            return False
        self.position = position
        for name in filter(None, fact.devices):  # a reported amount has no receiver
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
                self._count(
                    fact.app, fact.match, fact.sender, fact.receiver, len(fact.sizes), sum(fact.sizes)
                )
            case DeliveriesCounted():
                for each in fact.spans:
                    self._count(fact.app, each.match, each.sender, each.receiver, each.payloads, each.bytes)
            case DeliveriesClaimed():
                pass
            case AmountReported():  # pragma: no branch  # there are no others
                self._reported(fact)
        return True

    def _state(self, app: str, device: str) -> DeviceState:
        state = self._devices.get((app, device))
        if state is None:
            state = self._devices[app, device] = DeviceState(app=app, device=device)
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

    def _count(
        self, app: str, match: int, sender_id: str, receiver_id: str, payloads: int, total: int
    ) -> None:
        sender = self._state(app, sender_id)
        sender.messages_sent += payloads
        sender.bytes_sent += total
        if not receiver_id:  # a report, which names no receiver
            return
        receiver = self._state(app, receiver_id)
        receiver.messages_received += payloads
        receiver.bytes_received += total
        for direction in self._pair(app, match, sender_id, receiver_id).directions:
            if direction.sender == sender_id:
                direction.payloads += payloads
                direction.bytes += total

    def _reported(self, fact: AmountReported) -> None:
        state = self._state(fact.app, fact.device)
        if fact.event_type == "bytesSent":
            state.bytes_sent += fact.amount
        else:
            state.connections_reported += fact.amount
