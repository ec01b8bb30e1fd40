"""The events of a device, besides payloads."""

from dataclasses import dataclass

Data = str | bytes  # content of a payload


@dataclass(frozen=True, slots=True)
class Peer:
    """The device at the other end of a match."""

    id: str
    distance: float  # metres, as told: rounded to kilometres unless the server is set otherwise; 0: not told
    match: int  # number of the match


class Event:
    """Something that happened."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """The device is in the pool, waiting for a peer."""


@dataclass(frozen=True, slots=True)
class Matched(Event):
    """The device is matched with a peer."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The connection was lost and restored; the match continues and nothing is missing."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerAway(Event):
    """The peer is disconnected; payloads wait for its return."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerBack(Event):
    """The peer is connected again."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerLeft(Event):
    """The match ended."""

    peer: Peer
    reason: str  # left, unmatched, expired or replaced
    undelivered: tuple[Data, ...]  # payloads not known to be delivered, oldest first


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """Payloads `first` to `last` of the match (inclusive) can never arrive."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class ServerError(Event):
    """The server rejected a message, and the connection stays open; or no connection can be made at present,
    and the device tries again: `edge_full`, `not_ready`, `too_many_connections`, `app_quota`, `rate_limited`,
    or something between answers instead of the server (`refused`), redirects, or is a proxy that cannot be
    used (`unreachable`)."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class TokenExpires(Event):
    """The server asks for another token; the device asks the function that it was given, if any."""

    seconds: int  # until the present one expires


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """The connection was lost; the device reconnects."""

    code: int | None  # close code; None: the connection broke


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The device is closed and does not reconnect."""

    code: int
    reason: str
    undelivered: tuple[Data, ...]
