"""Which edges are alive, as one worker judges for itself.

Edges send heartbeats. A silent edge is probed: it is dead when the server reports no responders, and when it
does not answer for long although its subscriptions exist (its process is frozen). An edge that restarts has
lost all connections of its earlier incarnations.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER, EDGE_PROBED_AFTER, STALLED_AFTER

PROBE_INTERVAL = 0.5  # s between two probes of an edge


@dataclass
class _Edge:
    last_seen: float  # s; its last heartbeat or answer, or when a record first named it
    incarnation: int = 0  # the newest known, µs since 1970; 0: none yet
    probing: bool = False
    probed_at: float = 0.0  # s
    dead: bool = False


class Sighting(NamedTuple):
    """What one worker knows of the newest process of an edge."""

    incarnation: int  # µs since 1970; 0: unknown
    silent: bool  # it was probed and has not been heard since
    dead: bool


class Presence:
    """The edges that one worker knows of. `now` in seconds."""

    def __init__(self, now: float) -> None:
        self._edges: dict[str, _Edge] = {}
        self._checked = now

    def on_heartbeat(self, edge: str, incarnation: int, now: float) -> int:
        """Count an edge as alive: it sent a heartbeat or answered a probe.

        Returns:
            The incarnation above which it must choose its own; 0: none. A process is later than one that is
            dead, whatever its clock said when it started.
        """
        state = self._edges.setdefault(edge, _Edge(now))
        if incarnation < state.incarnation:  # a late message of an earlier process, or its clock was set back
            return state.incarnation if state.dead else 0
        state.incarnation, state.last_seen, state.dead = incarnation, now, False
        return 0

    def on_leave(self, edge: str, incarnation: int) -> None:
        """Count an edge that announced its end as dead."""
        state = self._edges.get(edge)
        if state is not None and incarnation >= state.incarnation:
            state.incarnation, state.dead = incarnation, True

    def on_no_responders(self, edge: str) -> None:
        """Count a probed edge as dead unless it was seen since."""
        state = self._edges[edge]
        if state.last_seen <= state.probed_at:
            state.dead = True

    def on_probe_done(self, edge: str) -> None:
        """End a probe, whatever its outcome."""
        self._edges[edge].probing = False

    def check(self, edges: Iterable[str], now: float, connected: bool) -> list[str]:
        """Find silent and dead edges; return those to probe now, until `on_probe_done`.

        Args:
            edges: those that hold devices; one never seen before counts as alive from now on.
            connected: whether we could receive heartbeats. After a stall or while disconnected all timers
                restart: we could not have received anything.
        """
        stalled = now - self._checked > STALLED_AFTER or not connected
        self._checked = now
        for edge in edges:
            self._edges.setdefault(edge, _Edge(now))
        silent = []
        for edge, state in self._edges.items():
            if state.dead:
                continue
            if stalled:
                state.last_seen = now
            elif now - state.last_seen > EDGE_DEAD_AFTER:
                state.dead = True
            elif self._probe_due(state, now):
                state.probing, state.probed_at = True, now
                silent.append(edge)
        return silent

    @staticmethod
    def _probe_due(state: _Edge, now: float) -> bool:
        silent = now - state.last_seen > EDGE_PROBED_AFTER
        return silent and not state.probing and now - state.probed_at >= PROBE_INTERVAL

    def sighting(self, edge: str) -> Sighting | None:
        """Return what is known of the newest process of an edge; None for an edge never heard or named."""
        state = self._edges.get(edge)
        if state is None:
            return None
        return Sighting(state.incarnation, state.probed_at > state.last_seen and not state.dead, state.dead)

    def is_dead(self, edge: str, incarnation: int) -> bool:
        """Whether this incarnation (0: unknown) of an edge is dead."""
        state = self._edges.get(edge)
        return state is not None and (state.dead or 0 < incarnation < state.incarnation)
