"""Fold facts into what is known of each device and each match.

Facts come in the order of the stream, but two edges publish side by side: what they say of one device
may stand in either order, so every rule here gives the same result in any order.

* A device has at most one live socket: of two sessions the one with the larger number is the newer and
  has replaced the other. So the newest connection and whether it has left say all there is to say.
* A match may hear of payloads or of its end before it hears of its beginning.

A fact is counted once: one at or before the ledger's position is known already.
"""

from typing import Literal

import msgspec

from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeviceConnected,
    DeviceLeft,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)

Kind = Literal["connected", "left", "matched", "unmatched", "delivered", "reported"]  # of fact

VERSION = 2  # of the rules: a state saved under other rules is folded anew


class DeviceState(msgspec.Struct, kw_only=True):
    """What the journal says of one device."""

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
        """Connections open now: the device's own, and what 2019 clients reported."""
        return int(self.connected) + self.connections_reported


class Way(msgspec.Struct, kw_only=True):
    """What went one way in a match."""

    sender: str
    receiver: str
    payloads: int = 0
    bytes: int = 0


class MatchState(msgspec.Struct, kw_only=True):
    """What the journal says of one match."""

    match: int
    app: str
    devices: tuple[str, str]
    distance: float | None = None  # metres
    made_at: int | None = None  # ms since 1970
    ended_at: int | None = None
    ended_by: str | None = None  # whose going ended it
    reason: str | None = None
    position: int = 0  # of the last fact about it
    ways: list[Way]


class Books(msgspec.Struct, kw_only=True):
    """All that a ledger knows, to be saved."""

    version: int = VERSION
    position: int = 0
    devices: list[DeviceState] = []
    matches: list[MatchState] = []


class Ledger:
    """The folded facts up to a position."""

    def __init__(self, books: Books | None = None) -> None:
        books = books or Books()
        self.position = books.position  # of the last fact folded; 0: none
        self._devices = {(d.app, d.device): d for d in books.devices}
        self._matches = {m.match: m for m in books.matches}

    def __len__(self) -> int:
        """Give how many devices and matches are known."""
        return len(self._devices) + len(self._matches)

    @classmethod
    def decode(cls, saved: bytes, *, any_rules: bool = False) -> "Ledger":
        """Read what `encode` gave.

        Args:
            any_rules: take it though it was made by other rules: its facts may be gone.

        Raises:
            ValueError: it cannot be read, or was made by other rules.
        """
        books = msgspec.json.decode(saved, type=Books)
        if books.version != VERSION and not any_rules:
            raise ValueError(f"made by version {books.version} of the rules, not {VERSION}")
        return cls(books)

    def encode(self) -> bytes:
        """Give all that is known, as JSON."""
        return msgspec.json.encode(
            Books(
                position=self.position,
                devices=list(self._devices.values()),
                matches=list(self._matches.values()),
            )
        )

    def device(self, app: str, device: str) -> DeviceState | None:
        """Give what is known of a device; None when no fact named it."""
        return self._devices.get((app, device))

    def match(self, match: int) -> MatchState | None:
        """Give what is known of a match; None when no fact named it."""
        return self._matches.get(match)

    def forget(self, before: int) -> int:
        """Forget the matches that have ended and whose facts all are before this position; give how many."""
        over = [m.match for m in self._matches.values() if m.ended_at is not None and m.position < before]
        for match in over:
            del self._matches[match]
        return len(over)

    def fold(self, position: int, fact: AnyFact) -> bool:
        """Take a fact in; False when it was in already."""
        if position <= self.position:
            return False
        self.position = position
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
            case AmountReported():
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
            ways = [Way(sender=device, receiver=peer), Way(sender=peer, receiver=device)]
            state = MatchState(match=match, app=app, devices=(device, peer), ways=ways)
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
        count, total = len(fact.sizes), sum(fact.sizes)
        sender, receiver = self._state(fact.app, fact.sender), self._state(fact.app, fact.receiver)
        sender.messages_sent += count
        sender.bytes_sent += total
        receiver.messages_received += count
        receiver.bytes_received += total
        for way in self._pair(fact.app, fact.match, fact.sender, fact.receiver).ways:
            if way.sender == fact.sender:
                way.payloads += count
                way.bytes += total

    def _reported(self, fact: AmountReported) -> None:
        state = self._state(fact.app, fact.device)
        if fact.event_type == "bytesSent":
            state.bytes_sent += fact.amount
        else:
            state.connections_reported += fact.amount
