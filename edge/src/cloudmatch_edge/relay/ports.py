"""What devices and matches need of the outside: the bus, the registry of matches, match-engine, and sockets.

Nothing here waits: results come back as calls of `Device` and `Match`.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from cloudmatch_edge.dialects.base import Dialect, SocketFrame
from cloudmatch_edge.dialects.close_codes import CloseCode
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.book import Direction

AnyMatch = TypeVar("AnyMatch", contravariant=True)
RoutedMatch = TypeVar("RoutedMatch")
AnyDevice = TypeVar("AnyDevice", contravariant=True)


class Publish(Protocol):
    """Publishes to the bus."""

    def __call__(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Publish; return whether the message was accepted."""


class Delivered(Protocol):
    """Takes what was delivered."""

    def __call__(self, direction: Direction, first: int, sizes: list[int], /, *, late: bool = False) -> None:
        """Count payloads as delivered, of these sizes, from number `first`. The list is handed over.

        Args:
            late: they were delivered some time ago, perhaps: the receiving end may have claimed them.
        """


class Claimed(Protocol):
    """Takes what was delivered to this edge."""

    def __call__(self, direction: Direction, first: int, sizes: list[int], /) -> None:
        """Claim that payloads were delivered, of these sizes, from number `first`, and all before them."""


class BusPort(Protocol):
    """The bus, and the time, as seen by one edge."""

    @property
    def name(self) -> str:
        """Name of this edge."""

    def now(self) -> float:
        """Time in seconds; only differences mean anything."""

    def clock(self) -> int:
        """Time in ms since 1970."""

    @property
    def publish(self) -> Publish:
        """Publish a message to the bus."""

    @property
    def delivered(self) -> Delivered:
        """Count payloads as delivered."""

    @property
    def claimed(self) -> Claimed:
        """Claim payloads that the peer's edge should have counted."""


class MatchRegistry(Protocol[RoutedMatch]):
    """Matches that get messages and timers."""

    def add(self, match: RoutedMatch, /) -> None:
        """Route acks and positions to a match."""

    def earlier(self, prefix: str, connection_id: int, /) -> RoutedMatch | None:
        """Return the same match on an earlier connection of its device, if that was on this edge."""

    def watch(self, match: RoutedMatch, /) -> None:
        """Call `tick` of a match until it is idle."""

    def settle_soon(self, match: RoutedMatch, /) -> None:
        """Call `settle` of a match within a few ms: it owes acks or sizes."""

    def remember(self, match: RoutedMatch, /) -> None:
        """Call `sweep` of a match every few seconds until it returns True."""

    def linger(self, match: RoutedMatch, /) -> None:
        """Keep routing for a few seconds, then `close` a match."""

    def await_peer(self, match: RoutedMatch, /) -> None:
        """Call `verify_peer` of a match now and then while it `awaits_peer`."""

    def remove(self, match: RoutedMatch, /) -> None:
        """Stop routing to a match."""


class Matchmaking(Protocol[AnyDevice, AnyMatch]):
    """match-engine, as devices use it."""

    def seek(self, device: AnyDevice, /) -> None:
        """Report who and where a device is, and get its current state."""

    def leave_match(self, device: AnyDevice, match: AnyMatch, /) -> None:
        """End a match of a device."""

    def verify(self, device: AnyDevice, /) -> None:
        """Get the current state of a device, unless an update arrives first."""

    def rejoin(self, device: AnyDevice, /) -> None:
        """Enter the pool as a new connection: match-engine has dropped the old one."""

    def forget(self, device: AnyDevice, /) -> None:
        """Stop waiting for the return of a disconnected device."""


class Socket(Protocol):
    """The connection of a device."""

    reading: bool  # whether frames of the device are read

    @property
    def writable(self) -> bool:
        """Whether what is written counts as taken: it is open, and not full."""

    @property
    def overfull(self) -> bool:
        """Whether no payload may be written: it is closing, or far too much waits."""

    def write(self, frames: Sequence[SocketFrame], /) -> None:
        """Write frames by the end of this turn; no effect once the connection is closing."""

    def host_took_all(self) -> bool:
        """Whether the device's host has acknowledged (TCP) all that was written."""

    def resume_reading(self) -> None:
        """Read frames again: `Device.credit` has grown."""

    def close(self, code: CloseCode, reason: str, /) -> None:
        """Begin to close."""


class MatchOwner(Protocol):
    """A device, as its match sees it."""

    who: Parameters
    connection_id: int
    dialect: Dialect
    socket: Socket
    disconnected: bool  # its socket is gone; it may return by another connection
    replaced: bool  # a newer connection has the id
    names_match: bool  # its acks name their match

    @property
    def acks_readable(self) -> bool:
        """Whether the device sends acks, and they are read."""

    def write(self, frames: Sequence[SocketFrame], /) -> None:
        """Write to the device."""

    def resync(self) -> None:
        """Have match-engine asked for the state of the device."""

    def leave_match(self) -> None:
        """Have the match ended."""

    def supersede(self, connection_id: int, edge: str, /) -> None:
        """Give way to a newer connection; 0 and "" if it is unknown."""
