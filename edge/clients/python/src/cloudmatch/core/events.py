"""What a device hears besides payloads."""

from dataclasses import dataclass

Data = str | bytes  # of a payload: a text or a binary one


@dataclass(frozen=True, slots=True)
class Peer:
    """The device at the other end of a match."""

    id: str
    distance: float  # metres
    match: int  # number of the match


class Event:
    """Something that happened."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """The device is in the pool and waits for a peer."""


@dataclass(frozen=True, slots=True)
class Matched(Event):
    """There is a peer."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The connection was lost and is back; the same match goes on and nothing is missing."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerAway(Event):
    """The peer's connection dropped; what is sent waits for its return."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerBack(Event):
    """The peer returned."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerLeft(Event):
    """The match is over."""

    peer: Peer
    reason: str  # left, unmatched, expired or replaced
    undelivered: tuple[Data, ...]  # all that was sent and not known to have arrived, oldest first


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """Payloads `first` to `last` of the match, both included, can never arrive."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class ServerError(Event):
    """The server did not understand or accept something; the connection lives on."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """The connection was lost; the device tries to get it back."""

    code: int | None  # of the close; None: it broke


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The device stops and does not connect again."""

    code: int
    reason: str
    undelivered: tuple[Data, ...]
