"""The trials of a comparison, and their order."""

from collections.abc import Sequence
from typing import NamedTuple

from bench import shapes

IDLE = 2_500  # pairs of idle connections
OPENING = 50  # pairs that connect one after another
RATE = "50@2000:64"  # the load while something breaks
BREAK_AT, OUTAGE = 1.5, 0.5  # s: of sending before the fault; of the broker's downtime
OVERHEAD = 0.9  # s per run, for connecting, draining and stopping


class Trial(NamedTuple):
    """One trial."""

    name: str
    title: str
    options: tuple[str, ...]  # of the generator
    warmup: float  # s
    seconds: float  # s
    repetitions: int = 1
    fault: str = ""  # "broker", "connections": breaks during the run
    restarts_peer: bool = False  # whether the peer is restarted afterwards
    extra: float = 0.0  # s on top of the usual overhead

    @property
    def estimate(self) -> float:
        """Duration of one repetition with one peer, s."""
        return self.warmup + self.seconds + OVERHEAD + self.extra


class Step(NamedTuple):
    """One repetition of a trial with one peer."""

    trial: Trial
    peer: str
    repetition: int


def relay(text: str, warmup: float, seconds: float, repetitions: int) -> Trial:
    """A trial that relays payloads in one shape."""
    shape = shapes.parse(text)
    return Trial(text, shape.title, (*shape.options, "--quiet", "6"), warmup, seconds, repetitions)


def fault_trial(name: str, title: str, option: str) -> Trial:
    """A trial that counts what is lost when something breaks."""
    options = (*shapes.parse(RATE).options, "--at", str(BREAK_AT), "--quiet", "2", option)
    what = "broker" if name == "kill" else "connections"
    return Trial(name, title, options, 0.5, 3.5, fault=what, restarts_peer=True, extra=4)


QUICK = tuple(relay(text, 0.4, 1.0, 2) for text in ("50x64:64", "1x1:64"))
RELAY = tuple(
    relay(text, 0.5, 1.5, 3)
    for text in (
        *("50x64:64", "50x64:1024", "50x64:16384", "50x1:64", "1x1:64"),
        *("50@20000:64", "50x64:64+both"),
    )
)
# Memory first: the heap of a peer that has been busy has grown already.
HOLD = Trial("idle", f"{2 * IDLE:,} idle connections", ("--pairs", str(IDLE), "--idle", "1"), 0.5, 1, extra=6)
CONNECT = Trial(
    *("opening", "from connecting to being matched"),
    ("--pairs", str(OPENING), "--opening", "1", "--idle", "0.1"),
    *(0, 1),
    extra=2,
)
KILL = fault_trial("kill", "the broker is killed and restarted", "--kill")
CUT = fault_trial("cut", "all receivers lose their connections", "--cut")
FULL = (HOLD, CONNECT, CUT, KILL, *RELAY)
SCALING = relay("50x64:64", 0.5, 1.5, 3)


def order(trials: Sequence[Trial], peers: Sequence[str], scales: Sequence[str] = ()) -> list[Step]:
    """Return all steps: single trials, CloudMatch at its scales, then rounds, every other one in reverse.

    Whatever drifts on the machine (clock rate, neighbours) then affects all peers alike, and when time runs
    out, only repetitions are missing.
    """
    once = [Step(trial, peer, 0) for trial in trials if trial.repetitions == 1 for peer in peers]
    scaling = [Step(SCALING, scale, n) for scale in scales for n in range(SCALING.repetitions)]
    rounds = [
        Step(trial, peer, n)
        for n in range(max((trial.repetitions for trial in trials), default=0))
        for trial in trials
        if n < trial.repetitions > 1
        for peer in (peers if n % 2 == 0 else peers[::-1])
    ]
    return [*once, *scaling, *rounds]


def estimate(steps: Sequence[Step]) -> float:
    """Duration of all steps, s."""
    return sum(step.trial.estimate for step in steps)
