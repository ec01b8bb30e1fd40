"""Counts and latencies of a swarm's payloads. Pure."""

from collections import Counter, deque

LATENCIES = 10_000  # kept, of the newest payloads


class SwarmStats:
    """Counts over all devices of a swarm.

    A payload is identified by its match, its sender and its number, from 1.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._sent: dict[tuple[int, str], int] = {}
        self._received: dict[tuple[int, str], int] = {}
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    def send(self, match: int, sender: str) -> int:
        """Count a payload sent; return its number."""
        number = self._sent[match, sender] = self._sent.get((match, sender), 0) + 1
        self.counts["sent"] += 1
        return number

    def undo(self, match: int, sender: str) -> None:
        """Uncount the last payload: it was not sent, as its match had ended."""
        self._sent[match, sender] -= 1
        self.counts["sent"] -= 1

    def fail(self, match: int, sender: str, count: int) -> None:
        """Count the last `count` payloads as undelivered: their match ended."""
        self._sent[match, sender] -= count
        self.counts["undelivered"] += count

    def receive(self, match: int, sender: str, number: int, latency: float) -> None:
        """Count a payload received; `latency` in s."""
        last = self._received.get((match, sender), 0)
        self.counts["received"] += 1
        self._latencies.append(latency)
        if number <= last:
            self.counts["duplicated"] += 1
            return
        self.counts["out of order"] += number != last + 1
        self._received[match, sender] = number

    @property
    def lost(self) -> int:
        """Payloads neither received nor reported as undelivered; includes those in flight."""
        return sum(max(0, sent - self._received.get(key, 0)) for key, sent in self._sent.items())

    @property
    def faults(self) -> int:
        """Payloads that arrived twice or out of order."""
        return self.counts["duplicated"] + self.counts["out of order"]

    def latency(self, share: float) -> float | None:
        """Return the latency in s that this share of the newest payloads did not exceed; None without any."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
