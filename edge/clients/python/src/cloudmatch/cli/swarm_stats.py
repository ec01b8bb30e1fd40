"""What arrived, of what was sent, and how long it took. Pure."""

from collections import Counter, deque

LATENCIES = 10_000  # of the newest payloads


class Tally:
    """Counts over all devices of a swarm.

    A payload is known by its match, its sender and its number, which counts from 1.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._sent: dict[tuple[int, str], int] = {}
        self._received: dict[tuple[int, str], int] = {}
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    def send(self, match: int, sender: str) -> int:
        """Give the next number."""
        number = self._sent[match, sender] = self._sent.get((match, sender), 0) + 1
        self.counts["sent"] += 1
        return number

    def undo(self, match: int, sender: str) -> None:
        """A payload was not sent after all: its match is over."""
        self._sent[match, sender] -= 1
        self.counts["sent"] -= 1

    def fail(self, match: int, sender: str, count: int) -> None:
        """The last `count` payloads are known not to have been delivered, for sure, as their match ended."""
        self._sent[match, sender] -= count
        self.counts["told"] += count

    def receive(self, match: int, sender: str, number: int, latency: float) -> None:
        """A payload has arrived; `latency` in s."""
        last = self._received.get((match, sender), 0)
        self.counts["received"] += 1
        self._latencies.append(latency)
        if number <= last:
            self.counts["twice"] += 1
            return
        self.counts["out of order"] += number != last + 1
        self._received[match, sender] = number

    @property
    def lost(self) -> int:
        """Payloads neither arrived nor told to be undelivered; those under way count, too."""
        return sum(max(0, sent - self._received.get(key, 0)) for key, sent in self._sent.items())

    @property
    def faults(self) -> int:
        """Payloads that came twice or out of order."""
        return self.counts["twice"] + self.counts["out of order"]

    def latency(self, share: float) -> float | None:
        """Give the latency in s that this share of the newest payloads did not exceed."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
