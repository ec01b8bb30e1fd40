"""What happened to matches a short while ago, in case that whoever did it died before it told.

A match that is made, and word of one that ended, stand in the bucket before anybody is told. Every worker
sees them there and remembers them for a while. When a worker has gone, each of the others tells again of
those that fall to it; and so does one that starts, for it may be the only one. None of that counts twice.
"""

from collections import deque
from collections.abc import Iterator

from cloudmatch_bus.contract.messages import PairRecord, Tombstone

REMEMBERED = 60_000  # ms; less than JetStream remembers message ids, so that a fact told again counts once
AGAIN = 1_000  # ms for which whoever is alive may still do it itself
LATE = 3_000  # ms for which we may still come to see what a worker did that has gone

Word = PairRecord | Tombstone  # made, or ended


class Recent:
    """What one worker saw. `now` in ms."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, Word]] = deque()
        # when and what to tell again, oldest first
        self._doubted: deque[tuple[int, Word]] = deque()
        self._doubtful_until = 0

    def saw(self, word: Word, now: int) -> None:
        """A match was made, or ended."""
        self._seen.append((now, word))
        if now < self._doubtful_until:
            self._doubted.append((now, word))
        while self._seen[0][0] < now - REMEMBERED:
            self._seen.popleft()

    def doubt(self, now: int) -> None:
        """A worker has gone, and with it perhaps what it had not told yet."""
        self._doubtful_until = now + LATE
        self._doubted.extend((now, word) for at, word in self._seen if at >= now - REMEMBERED)

    def unfinished(self, word: Word, now: int) -> None:
        """Something prevents that we tell it now."""
        self._doubted.append((now, word))

    def due(self, now: int) -> Iterator[Word]:
        """Give what is to be told again, each once; whoever it falls to does it, or says `unfinished`."""
        while self._doubted and self._doubted[0][0] <= now - AGAIN:
            yield self._doubted.popleft()[1]
