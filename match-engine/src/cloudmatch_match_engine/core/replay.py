"""Recent match events, kept so that another worker can replay them if the one that wrote them died first.

The pair of a new match, and the tombstone of an ended one, are in the bucket before anyone is notified.
Every worker sees them there and keeps them for a while. When a worker is lost, each of the others replays
the events that fall to it; so does a worker that starts, as it may be the only one. Replaying is idempotent.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from cloudmatch_bus.contract.messages import PairRecord, Tombstone

RETENTION = 60.0  # s; below JetStream's duplicate window, so that a fact published again counts once
REPLAY_DELAY = 1.0  # s for which whichever worker is at it may still finish
MIRROR_LAG = 3.0  # s within which the mirror shows everything that a lost worker has written

MatchEvent = PairRecord | Tombstone  # a match was made, or has ended


class _Recorded(NamedTuple):
    at: float  # s; when it was written
    revision: int
    event: MatchEvent


class ReplayLog:
    """The match events that one worker has seen. `now` in seconds, of this worker's monotonic clock."""

    def __init__(self) -> None:
        # oldest first
        self._events: deque[_Recorded] = deque()
        # (when it was scheduled, event) to replay, oldest first
        self._scheduled: deque[tuple[float, MatchEvent]] = deque()
        self._schedule_until = float("-inf")
        self._old = 0  # the last revision that is known to be older than `RETENTION`

    def record(self, event: MatchEvent, revision: int, now: float, age: float = 0.0) -> None:
        """Keep an event that the mirror shows; `age`: s since it was written."""
        self._events.append(_Recorded(now - age, revision, event))
        if age < RETENTION:
            self._old = min(self._old, revision - 1)  # only a bucket that was lost starts over
            if now < self._schedule_until:
                self._scheduled.append((now, event))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._events and self._events[0].at < now - RETENTION:
            self._old = max(self._old, self._events.popleft().revision)

    def is_recent(self, match: int, now: float) -> bool:
        """Whether a match was made within `RETENTION`: revisions, which number matches, grow with time."""
        self._forget(now)
        return match > self._old

    def schedule(self, now: float) -> None:
        """Schedule all recent events for replay, and those that the mirror shows within `MIRROR_LAG`."""
        self._schedule_until = now + MIRROR_LAG
        self._scheduled.extend((now, each.event) for each in self._events if each.at >= now - RETENTION)

    def retry(self, event: MatchEvent, now: float) -> None:
        """Schedule one event whose consequences could not be completed."""
        self._scheduled.append((now, event))

    def due(self, now: float) -> Iterator[MatchEvent]:
        """Yield each scheduled event once, `REPLAY_DELAY` later; `retry` those that fail."""
        while self._scheduled and self._scheduled[0][0] <= now - REPLAY_DELAY:
            yield self._scheduled.popleft()[1]
