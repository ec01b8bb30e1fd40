"""The sending half of a match: payloads are kept until delivered, and sent again on a new connection.

Payloads are numbered from 1 in each match, and are settled (known to be delivered) in order. Those kept are a
prefix already sent on the present connection, followed by those still to be sent.
"""

from collections import deque
from dataclasses import dataclass

from cloudmatch.core.events import Data

MAX_PAYLOADS = 128  # in flight at most
MAX_BYTES = 128 * 1024  # in flight at most; a single larger payload travels alone


@dataclass(eq=False, frozen=True, slots=True)
class Payload:
    """A payload sent by the application."""

    data: Data
    size: int  # bytes
    receipt: bool = False  # whether the application awaits its receipt
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A payload with a receipt was delivered."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A payload with a receipt was not delivered: the match ended."""

    payload: Payload
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A payload with a receipt was refused by the server."""

    payload: Payload
    code: str
    detail: str


Settlement = Delivered | Undelivered | Refused


class Outbox:
    """The payloads of one match, oldest first."""

    def __init__(self) -> None:
        self._payloads: deque[Payload] = deque()
        self._size = 0  # bytes of all payloads kept
        # how many payloads are settled; the first one kept has the next number
        self._settled = 0
        # how many of those kept, and how many of their bytes, are in flight
        self._sent = 0
        self._sent_size = 0

    def __len__(self) -> int:
        return len(self._payloads)

    @property
    def full(self) -> bool:
        """Whether the next payload must wait."""
        return len(self._payloads) >= MAX_PAYLOADS or self._size >= MAX_BYTES

    def append(self, payload: Payload) -> None:
        """Add a payload to be sent."""
        self._payloads.append(payload)
        self._size += payload.size

    def next_to_send(self) -> Payload | None:
        """Return the next payload to send, if there is one and room for it in flight."""
        if self._sent == len(self._payloads):
            return None
        payload = self._payloads[self._sent]
        if self._sent and (self._sent >= MAX_PAYLOADS or self._sent_size + payload.size > MAX_BYTES):
            return None
        self._sent += 1
        self._sent_size += payload.size
        return payload

    def resume(self, count: int) -> list[Payload]:
        """Settle the first `count` payloads as `settle` does; then send all that are kept again, numbered
        from there: the server may know less than it did."""
        settled = self.settle(count)
        self._settled = count
        self._rewind()
        return settled

    def _rewind(self) -> None:
        self._sent = self._sent_size = 0

    def settle(self, count: int) -> list[Payload]:
        """Settle the first `count` payloads of the match; return those that were not settled before."""
        settled = []
        while self._settled < count and self._payloads:
            settled.append(self._remove(0))
            self._settled += 1
        return settled

    def settle_to(self, ref: str) -> list[Payload]:
        """Settle all payloads up to the one with this reference; return them."""
        for index, payload in enumerate(self._payloads):
            if payload.ref == ref:
                return self.settle(self._settled + index + 1)
        return []

    def refuse(self, ref: str) -> Payload | None:
        """Remove and return a payload that the server refused, and so did not count."""
        for index, payload in enumerate(self._payloads):
            if payload.ref == ref:
                return self._remove(index)
        return None

    def clear(self) -> list[Payload]:
        """Start a new match; return the payloads left of the old one."""
        left = list(self._payloads)
        self._payloads.clear()
        self._size = self._settled = 0
        self._rewind()
        return left

    def _remove(self, index: int) -> Payload:
        payload = self._payloads[index]
        del self._payloads[index]
        self._size -= payload.size
        if index < self._sent:
            self._sent -= 1
            self._sent_size -= payload.size
        return payload
