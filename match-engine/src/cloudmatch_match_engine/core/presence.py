"""Which edges live, as one worker judges for itself.

Edges beat. One that is silent is asked; when the server says that nobody listens there, it is dead, and so
it is when it does not answer for long although its subscriptions stand: then it is frozen. An edge that
starts anew has lost all that it held before, and says so by when it started.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER, EDGE_PROBED_AFTER, STALLED_AFTER

AGAIN = 0.5  # s between two questions


@dataclass
class _Edge:
    heard: float  # when it last gave a sign of life, or was first named
    incarnation: int = 0  # of its newest process, µs since 1970; 0: not heard yet
    asking: bool = False
    asked: float = 0.0  # when it was last asked
    dead: bool = False


class Presence:
    """The edges that one worker knows of. `now` in seconds."""

    def __init__(self, now: float) -> None:
        self._edges: dict[str, _Edge] = {}
        self._looked = now

    def heard(self, edge: str, incarnation: int, now: float) -> None:
        """An edge beat, or answered."""
        known = self._edges.setdefault(edge, _Edge(now))
        if incarnation < known.incarnation:  # of a process before
            return
        known.incarnation, known.heard, known.dead = incarnation, now, False

    def gone(self, edge: str, incarnation: int) -> None:
        """An edge said that it leaves."""
        known = self._edges.get(edge)
        if known is not None and incarnation >= known.incarnation:
            known.incarnation, known.dead = incarnation, True

    def refused(self, edge: str) -> None:
        """Nobody listens where an edge was asked; unless it has been heard since."""
        known = self._edges.get(edge)
        if known is not None and known.heard <= known.asked:
            known.dead = True

    def asked(self, edge: str) -> None:
        """The question has its end, whatever came of it."""
        if (known := self._edges.get(edge)) is not None:
            known.asking = False

    def look(self, named: Iterable[str], now: float, connected: bool) -> list[str]:
        """Look for silent edges; give those that are to be asked now, each until `asked`.

        Args:
            named: the edges that hold devices: one never heard of counts from now on.
            connected: whether we could hear. Who was cut off or frozen has heard nobody, and counts anew.
        """
        stalled = now - self._looked > STALLED_AFTER or not connected
        self._looked = now
        silent = []
        for edge in named:
            self._edges.setdefault(edge, _Edge(now))
        for edge, known in self._edges.items():
            if known.dead:
                continue
            if stalled:
                known.heard = now
            elif now - known.heard > EDGE_DEAD_AFTER:
                known.dead = True
            elif now - known.heard > EDGE_PROBED_AFTER and not known.asking and now - known.asked >= AGAIN:
                known.asking, known.asked = True, now
                silent.append(edge)
        return silent

    def dead(self, edge: str, incarnation: int) -> bool:
        """Whether this incarnation (0: unknown) of an edge is dead."""
        known = self._edges.get(edge)
        return known is not None and (known.dead or 0 < incarnation < known.incarnation)
