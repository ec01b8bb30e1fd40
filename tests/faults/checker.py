"""Compare what devices sent with what they received, and count violations by the fault that was active.

A payload names its sender, its number in that direction, the time, the active fault, and a hash of all that
and of its content, so that a receiver can tell a corrupted payload from a missing one.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b


@dataclass
class Count:
    """What became of the payloads sent during one span of time."""

    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    corrupted: int = 0
    stall: float = 0.0  # s, the longest between send and delivery

    @property
    def violations(self) -> int:
        """Payloads that were not delivered exactly once, in order and unchanged."""
        return self.lost + self.duplicated + self.out_of_order + self.corrupted

    def add(self, other: "Count") -> None:
        """Add another span."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, max(mine, theirs) if field.name == "stall" else mine + theirs)


class Checker:
    """Counts by span: span 0 is before the first fault."""

    def __init__(self) -> None:
        self.spans = [Count()]

    @property
    def current(self) -> int:
        """Number of the current span."""
        return len(self.spans) - 1

    def start_span(self) -> int:
        """Start a span; return its number."""
        self.spans.append(Count())
        return self.current


def make_payload(sender: str, number: int, at: int, span: int, content: str) -> str:
    """Make a payload; `at` in ns."""
    head = f"{sender} {number} {at} {span}"
    return f"{head} {_hash(head, content)} {content}"


def _hash(head: str, content: str) -> str:
    return blake2b(f"{head} {content}".encode(), digest_size=8).hexdigest()


class Direction:
    """The payloads from one device to another."""

    def __init__(self, sender: str, checker: Checker) -> None:
        self.sender = sender
        self.sent = 0
        self.received = 0  # distinct payloads
        self.bytes = 0  # of all payloads received
        self.last = 0  # ns, when one was last received
        self._checker = checker
        self._highest = -1  # number received
        self._missing: set[int] = set()  # below it
        # first number sent in each span, and the span
        self._starts: list[int] = []
        self._spans: list[int] = []

    def next_payload(self, content: str, now: int) -> str:
        """Return the next payload to send; `now` in ns."""
        span = self._checker.current
        if not self._spans or self._spans[-1] != span:
            self._starts.append(self.sent)
            self._spans.append(span)
        payload = make_payload(self.sender, self.sent, now, span, content)
        self.sent += 1
        self._checker.spans[span].sent += 1
        return payload

    def on_payload(self, payload: str, now: int) -> None:
        """Check a received payload; `now` in ns."""
        self.bytes += len(payload) if payload.isascii() else len(payload.encode())
        self.last = now
        parts = payload.split(" ", 5)
        try:
            sender, number, at, span, digest, content = parts
            n, count = int(number), self._checker.spans[int(span)]
            valid = (
                sender == self.sender
                and n < self.sent
                and digest == _hash(payload[: -len(content) - 18], content)
            )
        except (ValueError, IndexError):
            valid = False
        if not valid:
            self._checker.spans[-1].corrupted += 1
            return
        count.stall = max(count.stall, (now - int(at)) / 1e9)
        if n == self._highest + 1:
            self._highest = n
        elif n > self._highest:
            self._missing.update(range(self._highest + 1, n))
            self._highest = n
        elif n in self._missing:
            self._missing.discard(n)
            count.out_of_order += 1
        else:
            count.duplicated += 1
            return
        self.received += 1

    def close(self) -> None:
        """Count as lost what was sent but not received."""
        for number in (*self._missing, *range(self._highest + 1, self.sent)):
            self._checker.spans[self._spans[bisect_right(self._starts, number) - 1]].lost += 1


def sum_by_name(spans: Sequence[tuple[str, Count]]) -> dict[str, tuple[int, Count]]:
    """Return (number of spans, their sum) for each name, in order of names."""
    out: dict[str, tuple[int, Count]] = {}
    for name, count in sorted(spans, key=lambda s: s[0]):
        number, total = out.setdefault(name, (0, Count()))
        total.add(count)
        out[name] = (number + 1, total)
    return out
