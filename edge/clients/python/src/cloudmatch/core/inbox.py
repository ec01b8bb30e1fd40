"""The receiving half of a match: payloads in order, each once, until the application takes them.

Payloads are numbered from 1 in each match. Text carries its number; a binary payload has the next one. Acks
count the payloads taken, so that an application that takes slowly slows its peer down.
"""

from collections import deque

from cloudmatch.core.events import Data, Gap

ACK_COUNT = 16  # payloads taken after which the ack is sent at once
ACK_DELAY = 0.02  # s after the previous ack, for fewer payloads


class Inbox:
    """Payloads waiting for the application, and the counters of the present match."""

    def __init__(self) -> None:
        # payloads with their match and number; those of earlier matches stay until they are taken
        self._payloads: deque[tuple[int, int, Data]] = deque()
        self.match = 0
        self.received = 0  # payloads of the match received so far
        # number of the last payload on this connection; lower than `received` while payloads are repeated
        self._last = 0
        self._taken = 0
        self._acked = 0
        self._acked_at = -ACK_DELAY
        self.ack_due: float | None = None  # time

    def __len__(self) -> int:
        return len(self._payloads)

    def reset(self, match: int) -> None:
        """Restart the counters for a match."""
        self.match = match
        self.received = self._last = self._taken = self._acked = 0
        self.ack_due = None

    def resume(self, last: int) -> int:
        """Continue on a new connection after payload `last`; return the number to acknowledge."""
        self._last = last
        self._acked = self.received
        return self._acked

    def pause(self) -> None:
        """Suspend acks until `resume`."""
        self.ack_due = None
        self._acked = self.received

    def receive(self, number: int | None, data: Data) -> Gap | None:
        """Store a payload unless it is a repeat; return the gap before it, if there is one."""
        self._last = self._last + 1 if number is None else number
        if self._last <= self.received:
            return None
        missing = range(self.received + 1, self._last)
        self.received = self._last
        self._payloads.append((self.match, self._last, data))
        return Gap(missing[0], missing[-1], "missing") if missing else None

    def skip(self, last: int) -> None:
        """Stop expecting payloads up to `last`."""
        self._last = last
        self.received = max(self.received, last)

    def take(self, now: float) -> Data:
        """Return the oldest payload, which then counts as taken."""
        match, number, data = self._payloads.popleft()
        if match == self.match:
            self._taken = number
            if number > self._acked and self.ack_due is None:
                self.ack_due = max(now, self._acked_at + ACK_DELAY)
        return data

    @property
    def ack_urgent(self) -> bool:
        """Whether enough payloads were taken to send the ack at once."""
        return self._taken - self._acked >= ACK_COUNT

    def ack(self, now: float, last: bool = False) -> int | None:
        """Return the number to acknowledge if an ack is due; with `last`, whenever one is outstanding."""
        if self.ack_due is None or (now < self.ack_due and not self.ack_urgent and not last):
            return None
        self.ack_due = None
        self._acked_at = now
        self._acked = self._taken
        return self._acked
