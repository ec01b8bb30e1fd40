"""What the engine and a dialect say to each other. The engine knows matches and payloads, a dialect knows
what they look like on the socket; neither knows the other.

A device's dialect is asked what to write when something happens (each answer is the frames to write, in
order), and what the device wants when frames of it have come.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from cloudmatch_bus.contract.payloads import Payload


class Wish(msgspec.Struct, frozen=True):
    """What a device wants."""


class Send(Wish, frozen=True):
    """Payloads for the match."""

    payloads: list[Payload]
    refs: Sequence[tuple[int, str]] = ()  # (index of a payload, what its receipt is to name)


class Received(Wish, frozen=True):
    """The device has the first `total` payloads of its match (of match `match`, if it names one)."""

    total: int
    match: int | None


class Unmatch(Wish, frozen=True):
    """End the match."""


class Locate(Wish, frozen=True):
    """The device has moved."""

    lat: float  # degrees
    lon: float  # degrees


class Leave(Wish, frozen=True):
    """The device leaves for good."""


class Reply(Wish, frozen=True):
    """Nothing for the engine: this goes straight back."""

    frames: list[Payload]


class Refuse(Wish, frozen=True):
    """The device sent what cannot be gone on from; its connection is to be closed."""

    code: int
    reason: str


class Dialect(Protocol):
    """The conversation of one device."""

    going_away: int  # close code when the edge ends
    resumable: bool  # whether a dropped connection may be gone on with
    acknowledges: bool  # whether the device says what it has received

    def connected(self) -> list[Payload]:
        """The connection was accepted."""

    def waiting(self, at: int) -> list[Payload]:
        """The device waits since `at` (ms since 1970)."""

    def matched(self, match: int, peer: str, distance: float, at: int) -> list[Payload]:
        """A match begins; the peer is `distance` metres away."""

    def resumed(self, match: int, peer: str, distance: float, taken: int) -> list[Payload]:
        """The match goes on; the peer has the first `taken` payloads of the device."""

    def heard(self, peer: str, first: int, payloads: Sequence[Payload]) -> list[Payload]:
        """Payloads came; `first` is the number of the first of them, from 0."""

    def taken(self, total: int, refs: Sequence[str]) -> list[Payload]:
        """The peer has the first `total` payloads of the device, those with these refs among them."""

    def away(self, peer: str) -> list[Payload]:
        """The peer's connection dropped."""

    def back(self, peer: str) -> list[Payload]:
        """The peer has returned."""

    def left(self, peer: str, reason: str) -> list[Payload]:
        """The match is over."""

    def gap(self, first: int, end: int, reason: str) -> list[Payload]:
        """Payloads of the peer from number `first` to before `end` (from 0) can never arrive."""

    def undeliverable(self, send: Send) -> list[Payload]:
        """Payloads came that have no match to go to."""

    def limited(self) -> list[Payload]:
        """The device asks too often; what it asked was not done."""

    def take(self, frames: list[Payload]) -> list[Wish]:
        """Read what the device sent."""
