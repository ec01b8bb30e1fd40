"""The schedule of faults, drawn from a seed. Equal seeds give equal schedules.

The nemesis keeps track of the running workers, so that every fault has a running target, and no step leaves
the stack without a worker or NATS without a majority unless that is the fault. Faults of one step happen at
once; the next step begins when all of them are over and a gap has passed.
"""

import random
from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import NamedTuple

SLOTS = 4  # workers that may run; number i runs in slot i
INITIAL_WORKERS = 3  # slots
GAP = (0.5, 3.0)  # s between two steps
EDGES = 3
CUTTABLE = 0  # slot of the worker, and number of the edge, whose link can be cut


class Dialect(StrEnum):
    """The dialect of the devices."""

    V1 = "v1"
    CLASSIC = "classic"


class Kind(Enum):
    """A fault; its value is its name in tables."""

    KILL_WORKER = "worker killed"
    STOP_WORKER = "worker ended by SIGTERM"
    FREEZE_WORKER = "worker frozen"
    START_WORKER = "worker started"
    NO_WORKER = "no worker at all"
    KILL_PAIRING_LEADER = "NATS leader of KV_match killed"
    KILL_EVENTS_LEADER = "NATS leader of EVENTS killed"
    KILL_NATS = "NATS node killed"
    STOP_NATS = "NATS node ended by SIGTERM"
    TRACER = "a subscriber to everything"
    CUT_WORKER = "link of a worker cut"
    CUT_EDGE = "link of an edge cut"
    KILL_EDGE = "edge killed"
    STOP_EDGE = "edge drained"
    DROP = "sockets dropped"

    @property
    def of_nats(self) -> bool:
        """Whether a NATS node goes down."""
        return self in NATS

    @property
    def of_edge(self) -> bool:
        """Whether `target` is an edge."""
        return self in {Kind.CUT_EDGE, Kind.KILL_EDGE, Kind.STOP_EDGE}


# A classic device's match ends with its connection.
NEEDS_RESUME = {Kind.KILL_EDGE, Kind.STOP_EDGE, Kind.DROP}
# s; an edge that is silent for 3.5 s counts as dead, and the matches of its classic devices end
CUT = {Dialect.CLASSIC: (0.5, 1.5), Dialect.V1: (0.5, 7)}
NATS = {Kind.KILL_PAIRING_LEADER, Kind.KILL_EVENTS_LEADER, Kind.KILL_NATS, Kind.STOP_NATS}
WEIGHTS = {
    Kind.KILL_WORKER: 5,
    Kind.STOP_WORKER: 3,
    Kind.FREEZE_WORKER: 4,
    Kind.START_WORKER: 4,
    Kind.NO_WORKER: 1,
    Kind.KILL_PAIRING_LEADER: 1,
    Kind.KILL_EVENTS_LEADER: 1,
    Kind.KILL_NATS: 1,
    Kind.STOP_NATS: 1,
    Kind.TRACER: 2,
    Kind.CUT_WORKER: 2,
    Kind.CUT_EDGE: 1,
    Kind.KILL_EDGE: 5,
    Kind.STOP_EDGE: 3,
    Kind.DROP: 5,
}
TWO_AT_ONCE = 0.2  # of the steps


class Fault(NamedTuple):
    """One fault."""

    kind: Kind
    target: int = 0  # slot of the worker, number of the edge or NATS node, seed of the sockets to drop
    seconds: float = 0.0  # duration

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind.value} (#{self.target}){lasts}"


class Step(NamedTuple):
    """Faults at once, after `gap` seconds."""

    gap: float
    faults: tuple[Fault, ...]

    @property
    def name(self) -> str:
        """The name of the step in tables."""
        return " + ".join(sorted(f.kind.value for f in self.faults))


class Nemesis:
    """Draws the steps of one schedule."""

    def __init__(self, seed: int, kinds: Iterable[Kind], dialect: Dialect) -> None:
        self._random = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self._kinds = [kind for kind in Kind if kind in set(kinds)]  # in a fixed order
        self._cut = CUT[dialect]
        self._running = set(range(INITIAL_WORKERS))
        self._edges: set[int] = set()  # not yet hit in this step

    def step(self) -> Step:
        """Draw the next step."""
        gap = round(self._random.uniform(*GAP), 2)
        # None may be hit twice in one step, and one must keep running.
        untouched = set(self._running)
        self._edges = set(range(EDGES))
        first = self._fault(self._possible(untouched, alone=True), untouched)
        faults = [first]
        # A tracer hides the loss of a worker from edges: alone it would prove nothing.
        if first.kind is Kind.TRACER or (
            first.kind is not Kind.NO_WORKER and self._random.random() < TWO_AT_ONCE
        ):
            possible = [k for k in self._possible(untouched, alone=False) if k is not first.kind]
            if first.kind is Kind.TRACER:
                possible = [k for k in possible if k in (Kind.KILL_WORKER, Kind.FREEZE_WORKER)] or possible
            if first.kind.of_nats:
                possible = [k for k in possible if not k.of_nats]
            if possible:
                faults.append(self._fault(possible, untouched))
        return Step(gap, tuple(faults))

    def _possible(self, untouched: set[int], *, alone: bool) -> list[Kind]:
        spare = len(self._running) > 1 and len(untouched) > 1
        possible = {
            Kind.KILL_WORKER: spare,
            Kind.STOP_WORKER: spare,
            Kind.FREEZE_WORKER: spare,
            Kind.CUT_WORKER: CUTTABLE in untouched and spare,
            Kind.CUT_EDGE: CUTTABLE in self._edges,
            Kind.START_WORKER: len(self._running) < SLOTS and alone,
            Kind.NO_WORKER: alone,
        }
        found = [kind for kind in self._kinds if possible.get(kind, True)]
        return found or ([Kind.START_WORKER] if alone and len(self._running) < SLOTS else [])

    def _fault(self, kinds: list[Kind], untouched: set[int]) -> Fault:
        weights = [
            WEIGHTS[k] * (3 if k is Kind.START_WORKER and len(self._running) < 3 else 1) for k in kinds
        ]
        kind = self._random.choices(kinds, weights)[0]
        pick = self._random.choice
        match kind:
            case Kind.KILL_WORKER | Kind.STOP_WORKER:
                slot = pick(sorted(untouched))
                untouched.discard(slot)
                self._running.discard(slot)
                return Fault(kind, slot)
            case Kind.FREEZE_WORKER:
                slot = pick(sorted(untouched))
                untouched.discard(slot)
                return Fault(kind, slot, self._seconds(0.5, 5))
            case Kind.CUT_WORKER:
                untouched.discard(CUTTABLE)
                return Fault(kind, CUTTABLE, self._seconds(1, 5))
            case Kind.CUT_EDGE:
                self._edges.discard(CUTTABLE)
                return Fault(kind, CUTTABLE, self._seconds(*self._cut))
            case Kind.KILL_EDGE | Kind.STOP_EDGE:
                edge = pick(sorted(self._edges))
                self._edges.discard(edge)
                return Fault(kind, edge, self._seconds(0, 5))
            case Kind.DROP:
                return Fault(kind, self._random.randrange(1000), self._seconds(0, 1))
            case Kind.START_WORKER:
                slot = min(set(range(SLOTS)) - self._running)
                self._running.add(slot)
                return Fault(kind, slot)
            case Kind.NO_WORKER:
                self._running = set(range(INITIAL_WORKERS))
                return Fault(kind, 0, self._seconds(1, 3))
            case Kind.TRACER:
                return Fault(kind, 0, self._seconds(2, 4))
            case _:
                return Fault(kind, self._random.randrange(3), self._seconds(0.5, 5))

    def _seconds(self, least: float, most: float) -> float:
        return round(self._random.uniform(least, most), 1)


def survivable(dialect: Dialect) -> tuple[Kind, ...]:
    """Return the faults that devices of this dialect survive."""
    return tuple(kind for kind in Kind if dialect is Dialect.V1 or kind not in NEEDS_RESUME)


def schedule(seed: int, faults: int, dialect: Dialect, kinds: Iterable[Kind] = ()) -> list[Step]:
    """Draw steps with at least `faults` faults in total, of these kinds, or of all survivable ones."""
    nemesis = Nemesis(seed, tuple(kinds) or survivable(dialect), dialect)
    steps: list[Step] = []
    while sum(len(step.faults) for step in steps) < faults:
        steps.append(nemesis.step())
    return steps
