"""Matches that ended a short while ago, until it is certain that all that follows was done.

Whoever ends a match leaves word of it in the place of the pair, and then tells the peer and the stream of
facts. It may die in between, and so may the edge that would have asked again. So every worker remembers
what it saw end, and one of them does again what follows; none of that counts twice.
"""

from collections.abc import Iterator

from cloudmatch_bus.messages import Departure

AGAIN = 2.0  # s after which what follows an end is done again
FORGET = 8.0  # s; within these the partitions of a dead worker have fallen to another
REMEMBERED = 10_000  # ends that we saw to ourselves

End = tuple[str, int]  # app, match


class Ends:
    """The ends that one worker knows of. `now` in seconds."""

    def __init__(self) -> None:
        self._open: dict[End, tuple[Departure, float]] = {}
        self._done: dict[End, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def heard(self, left: Departure, now: float) -> None:
        """A match ended, with this word."""
        if left.match is not None and (left.app, left.match) not in self._done:
            self._open[left.app, left.match] = left, now

    def done(self, left: Departure) -> None:
        """All that follows was done, by us."""
        if left.match is None:
            return
        end = left.app, left.match
        self._open.pop(end, None)
        self._done[end] = None
        if len(self._done) > REMEMBERED:
            del self._done[next(iter(self._done))]

    def due(self, now: float) -> Iterator[Departure]:
        """Give those that are to be done again by whom it concerns; forget the old ones."""
        for end, (left, since) in list(self._open.items()):
            if now - since < AGAIN:
                return  # the others are younger
            if now - since > FORGET:
                del self._open[end]
            yield left
