"""The receiving half of a match: payloads in order, each once, until the application takes them.

Payloads are numbered from 1 in each match. A text says its number, a binary one has the next. Acks tell what
the application has taken, so that one who takes slowly slows the peer down.
"""

from collections import deque

from cloudmatch.core.events import Data, Gap

ACK_COUNT = 16  # payloads taken are acknowledged at once;
ACK_DELAY = 0.02  # fewer so many s after the last ack: when little is said, soon


class Inbox:
    """Payloads that wait for the application; counters of the present match."""

    def __init__(self) -> None:
        # payloads with their match and number; those of earlier matches stay until taken
        self._items: deque[tuple[int, int, Data]] = deque()
        self.match = 0
        self.received = 0  # the first N payloads of the match are here
        # number of the last payload on this connection; behind `received` when payloads are repeated
        self._last = 0
        self._taken = 0
        self._acked = 0
        self._acked_at = -ACK_DELAY
        self.ack_due: float | None = None  # time

    def __len__(self) -> int:
        return len(self._items)

    def begin(self, match: int) -> None:
        """Count anew."""
        self.match = match
        self.received = self._last = self._taken = self._acked = 0
        self.ack_due = None

    def resume(self, last: int) -> int:
        """Go on, on a new connection, after payload `last`; give the number to acknowledge."""
        self._last = last
        self._acked = self.received
        return self._acked

    def pause(self) -> None:
        """Acknowledge nothing until `resume`."""
        self.ack_due = None
        self._acked = self.received

    def arrive(self, number: int | None, data: Data) -> Gap | None:
        """Keep a payload unless it is a repeat; give what is missing before it."""
        self._last = self._last + 1 if number is None else number
        if self._last <= self.received:
            return None
        missing = range(self.received + 1, self._last)
        self.received = self._last
        self._items.append((self.match, self._last, data))
        return Gap(missing[0], missing[-1], "missing") if missing else None

    def skip(self, last: int) -> None:
        """Do not wait for payloads up to `last`."""
        self._last = last
        self.received = max(self.received, last)

    def take(self, now: float) -> Data:
        """Give the oldest payload to the application."""
        match, number, data = self._items.popleft()
        if match == self.match:
            self._taken = number
            if number > self._acked and self.ack_due is None:
                self.ack_due = max(now, self._acked_at + ACK_DELAY)
        return data

    @property
    def ack_pressing(self) -> bool:
        """Whether so many payloads were taken that the ack cannot wait."""
        return self._taken - self._acked >= ACK_COUNT

    def ack(self, now: float, last: bool = False) -> int | None:
        """Give the number to acknowledge, if it is time, or the last time."""
        if self.ack_due is None or (now < self.ack_due and not self.ack_pressing and not last):
            return None
        self.ack_due = None
        self._acked_at = now
        self._acked = self._taken
        return self._acked
