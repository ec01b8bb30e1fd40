"""The sending half of a match: payloads are kept until the peer has them, and sent again after a drop.

The first N payloads of a match can be settled (they are in the peer's hands) or not; numbers start at 1.
What is kept is a prefix that was sent on the present connection, and a rest that was not yet.
"""

from collections import deque
from dataclasses import dataclass

from cloudmatch.core.events import Data

COUNT = 128  # payloads under way at most
SIZE = 128 * 1024  # bytes under way at most; one larger payload travels alone


@dataclass(eq=False, frozen=True, slots=True)
class Payload:
    """A payload that the application sent."""

    data: Data
    size: int  # bytes
    receipt: bool = False  # whether the application waits for its receipt
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A payload whose receipt was asked for is in the peer's hands."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A payload whose receipt was asked for will get none: the match is over."""

    payload: Payload
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A payload whose receipt was asked for was not taken by the server."""

    payload: Payload
    code: str
    detail: str


Settlement = Delivered | Undelivered | Refused


class Outbox:
    """Payloads of one match, oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Payload] = deque()
        self._size = 0  # bytes kept
        # payloads settled: the first one kept has the number after it
        self._settled = 0
        # of those kept: how many, and how many bytes, are under way
        self._sent = 0
        self._sent_size = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def full(self) -> bool:
        """Whether the next payload has to wait."""
        return len(self._kept) >= COUNT or self._size >= SIZE

    def put(self, payload: Payload) -> None:
        """Keep a payload, to be sent."""
        self._kept.append(payload)
        self._size += payload.size

    def send(self) -> Payload | None:
        """Give the next payload to be sent, if there is one and room for it."""
        if self._sent == len(self._kept):
            return None
        payload = self._kept[self._sent]
        if self._sent and (self._sent >= COUNT or self._sent_size + payload.size > SIZE):
            return None
        self._sent += 1
        self._sent_size += payload.size
        return payload

    def rewind(self) -> None:
        """Send all again that is kept."""
        self._sent = self._sent_size = 0

    def settle(self, count: int) -> list[Payload]:
        """Forget the first `count` payloads of the match; give those not settled before."""
        gone = []
        while self._settled < count and self._kept:
            gone.append(self._remove(0))
            self._settled += 1
        return gone

    def settle_to(self, ref: str) -> list[Payload]:
        """Forget all up to the payload with this reference; give them."""
        for index, payload in enumerate(self._kept):
            if payload.ref == ref:
                return self.settle(self._settled + index + 1)
        return []

    def refuse(self, ref: str) -> Payload | None:
        """Forget a payload that the server did not take, and so did not count; give it."""
        for index, payload in enumerate(self._kept):
            if payload.ref == ref:
                return self._remove(index)
        return None

    def clear(self) -> list[Payload]:
        """Begin a new match; give what is left of the old one."""
        left = list(self._kept)
        self._kept.clear()
        self._size = self._settled = 0
        self.rewind()
        return left

    def _remove(self, index: int) -> Payload:
        payload = self._kept[index]
        del self._kept[index]
        self._size -= payload.size
        if index < self._sent:
            self._sent -= 1
            self._sent_size -= payload.size
        return payload
