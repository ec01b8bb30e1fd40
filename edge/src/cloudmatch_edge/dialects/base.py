"""What passes between the relay and a dialect. The relay deals in matches and payloads, a dialect in frames;
neither depends on the other.

On each event the relay asks the device's dialect for the frames to write, in order; for frames of the device
it asks for the commands that they stand for.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects.close_codes import CloseCode

# One WebSocket message of a device: whether it is text, and its bytes (of a text: UTF-8). A plain tuple, as
# `Payload` is: many a frame is a payload as it stands.
SocketFrame = tuple[bool, bytes]
Denial = Literal["unauthorized", "forbidden"]  # a token is not taken, or does not allow something


class Command(msgspec.Struct, frozen=True):
    """A command of a device."""


class Send(Command, frozen=True):
    """Send payloads to the peer."""

    payloads: list[Payload]
    refs: Sequence[tuple[int, str]] = ()  # (index of a payload, `ref` of its receipt)


class Acknowledge(Command, frozen=True):
    """The first `total` payloads of the match were delivered (of match `match`, if it is named)."""

    total: int
    match: int | None


class Unmatch(Command, frozen=True):
    """End the match."""


class Locate(Command, frozen=True):
    """The device has moved."""

    lat: float  # degrees
    lon: float  # degrees


class Renew(Command, frozen=True):
    """Go on with another token."""

    token: str


class Leave(Command, frozen=True):
    """Leave for good."""


class Reply(Command, frozen=True):
    """Write frames back to the device; the relay has nothing to do."""

    frames: list[SocketFrame]


class Close(Command, frozen=True):
    """Close the connection: the device violated the dialect."""

    code: CloseCode
    reason: str


class Dialect(Protocol):
    """The conversation of one device."""

    going_away: CloseCode  # when the edge shuts down
    resumable: bool  # whether a new connection can resume the session
    acknowledges: bool  # whether the device acknowledges payloads

    def connected(self) -> list[SocketFrame]:
        """The connection was accepted."""

    def waiting(self, at: int) -> list[SocketFrame]:
        """The device has been waiting since `at` (ms since 1970)."""

    def matched(self, match: int, peer: str, distance: float, at: int) -> list[SocketFrame]:
        """A match begins at `at` (ms since 1970); the peer is `distance` metres away."""

    def resumed(self, match: int, peer: str, distance: float, delivered: int) -> list[SocketFrame]:
        """The match continues; the first `delivered` payloads of the device were delivered."""

    def payloads(self, peer: str, first: int, payloads: Sequence[Payload]) -> list[SocketFrame]:
        """Payloads of the peer arrived; `first` is the number of the first one, from 0."""

    def delivered(self, total: int, refs: Sequence[str]) -> list[SocketFrame]:
        """The first `total` payloads of the device were delivered, those with these refs among them."""

    def peer_away(self, peer: str) -> list[SocketFrame]:
        """The peer is disconnected."""

    def peer_back(self, peer: str) -> list[SocketFrame]:
        """The peer has returned."""

    def peer_left(self, peer: str, reason: str) -> list[SocketFrame]:
        """The match is over."""

    def gap(self, first: int, end: int, reason: str) -> list[SocketFrame]:
        """Payloads of the peer from number `first` to before `end` (from 0) can never arrive."""

    def false_count(self, count: int, sent: int) -> list[SocketFrame]:
        """The device says that it has received `count` payloads; the peer has sent it fewer."""

    def undeliverable(self, send: Send) -> list[SocketFrame]:
        """Payloads came while there was no match to send them to."""

    def rate_limited(self) -> list[SocketFrame]:
        """A command was ignored because the device sends too many."""

    def denied(self, code: Denial, detail: str) -> list[SocketFrame]:
        """A token was not taken, or a command was ignored because the token does not allow it."""

    def token_expires(self, seconds: int) -> list[SocketFrame]:
        """The token of the device expires soon."""

    def renewed(self, expires: float | None) -> list[SocketFrame]:
        """Another token was taken; it expires at `expires` (s since 1970)."""

    def parse(self, frames: list[SocketFrame]) -> list[Command]:
        """Parse frames of the device."""
