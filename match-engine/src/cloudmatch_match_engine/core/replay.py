"""Recent match events, kept so that another worker can replay them if the one that wrote them died first.

The pair of a new match, and the tombstone of an ended one, are in the bucket before anyone is notified.
Every worker sees them there and keeps them for a while. When a worker is lost, each of the others replays
the events that fall to it; so does a worker that starts, as it may be the only one. Replaying is idempotent.
"""

from collections import deque
from collections.abc import Iterator

from cloudmatch_bus.contract.messages import PairRecord, Tombstone

RETENTION = 60_000  # ms; below JetStream's duplicate window, so that a fact published again counts once
REPLAY_DELAY = 1_000  # ms for which whichever worker is at it may still finish
MIRROR_LAG = 3_000  # ms within which the mirror shows everything that a lost worker has written

MatchEvent = PairRecord | Tombstone  # a match was made, or has ended


class ReplayLog:
    """The match events that one worker has seen. `now` in ms."""

    def __init__(self) -> None:
        # (when it was recorded, event), oldest first
        self._events: deque[tuple[int, MatchEvent]] = deque()
        # (when it was scheduled, event) to replay, oldest first
        self._scheduled: deque[tuple[int, MatchEvent]] = deque()
        self._schedule_until = 0

    def record(self, event: MatchEvent, now: int) -> None:
        """Keep an event that the mirror shows."""
        self._events.append((now, event))
        if now < self._schedule_until:
            self._scheduled.append((now, event))
        while self._events[0][0] < now - RETENTION:
            self._events.popleft()

    def schedule(self, now: int) -> None:
        """Schedule all recent events for replay, and those that the mirror shows within `MIRROR_LAG`."""
        self._schedule_until = now + MIRROR_LAG
        self._scheduled.extend((now, event) for at, event in self._events if at >= now - RETENTION)

    def retry(self, event: MatchEvent, now: int) -> None:
        """Schedule one event whose consequences could not be completed."""
        self._scheduled.append((now, event))

    def due(self, now: int) -> Iterator[MatchEvent]:
        """Yield each scheduled event once, `REPLAY_DELAY` later; `retry` those that fail."""
        while self._scheduled and self._scheduled[0][0] <= now - REPLAY_DELAY:
            yield self._scheduled.popleft()[1]
