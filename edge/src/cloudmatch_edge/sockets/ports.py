"""What connections need of their listener."""

from typing import Protocol, TypeVar

from websockets.http11 import Request

from cloudmatch_edge.admission.permit import Admitted, Permit
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.sockets import pages
from cloudmatch_edge.sockets.pace import Pace
from cloudmatch_edge.sockets.turns import Turns
from cloudmatch_edge.sockets.writer import Writer

AnyConnection = TypeVar("AnyConnection", contravariant=True)


class ListenerPort(Protocol[AnyConnection]):
    """The listener, as its connections use it."""

    in_turn: Turns
    message_timeout: float  # s that a message may take; 0: unlimited
    patience: float  # s for which a device may take nothing of what waits for it

    def opened(self, connection: AnyConnection, /) -> float | bytes:
        """Add a connection; return how many seconds its request may take, or the answer that refuses it
        unread."""

    def closed(self, connection: AnyConnection, /) -> None:
        """Remove a connection."""

    def flush_soon(self, writer: Writer) -> None:
        """Call `flush` of a writer by the end of this turn."""

    def parse(self, head: bytes, connection: AnyConnection, /) -> tuple[Request, bytes] | None:
        """Return the request that `head` begins with, and what follows it; None if it is incomplete.

        Raises:
            RefusedError: it never becomes one.
        """

    def respond(self, request: Request, connection: AnyConnection, /) -> pages.Page | Admitted:
        """Return the page to answer a request with, or a device to accept."""

    def pace(self, permit: Permit, /) -> Pace | None:
        """How much of one device is read in a second; None: all."""

    def frame_limits(self, *, speaks_v1: bool) -> tuple[int, int]:
        """Bytes of the largest text of a device, and of the largest fragment or binary frame."""

    def join(
        self, admitted: Admitted, connection: AnyConnection, /, *, speaks_v1: bool, waited: float
    ) -> Device:
        """Add a device that asked `waited` seconds ago, and write its first frames."""

    def broke_off(self, silence: float) -> None:
        """Note that a connection broke off after so many seconds without a byte."""

    def leave(self, device: Device, code: int) -> None:
        """Remove a device whose connection was closed with `code`."""
