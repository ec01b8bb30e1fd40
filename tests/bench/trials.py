"""The trials of a comparison and their order; they are run elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple

from bench import shapes

IDLE = 2_500  # pairs of idle connections
OPENING = 50  # pairs that connect one after the other
RATE = "50@2000:64"  # the load while something breaks
BREAK_AT, OUTAGE = 1.5, 0.5  # s after sending began; s for which the broker is down
OVERHEAD = 0.9  # s of a run, for connecting, the last payloads, and ending


class Trial(NamedTuple):
    """One trial."""

    name: str
    title: str
    options: tuple[str, ...]  # of the generator
    warmup: float  # s
    seconds: float  # s
    repetitions: int = 1
    breaks: str = ""  # what breaks during the run: "broker", "connections"
    spends: bool = False  # whether the peer is restarted after it
    more: float = 0.0  # s on top of the usual overhead

    @property
    def estimate(self) -> float:
        """How long one repetition takes with one peer, s."""
        return self.warmup + self.seconds + OVERHEAD + self.more


class Step(NamedTuple):
    """A trial with one peer."""

    trial: Trial
    peer: str
    repetition: int


def relay(text: str, warmup: float, seconds: float, repetitions: int) -> Trial:
    """A trial of the relay with one shape."""
    shape = shapes.parse(text)
    return Trial(text, shape.title, (*shape.options, "--quiet", "6"), warmup, seconds, repetitions)


def breaking(name: str, title: str, option: str) -> Trial:
    """A trial of what is lost when something breaks."""
    options = (*shapes.parse(RATE).options, "--at", str(BREAK_AT), "--quiet", "2", option)
    what = "broker" if name == "kill" else "connections"
    return Trial(name, title, options, 0.5, 3.5, breaks=what, spends=True, more=4)


QUICK = tuple(relay(text, 0.4, 1.0, 2) for text in ("50x64:64", "1x1:64"))
RELAY = tuple(
    relay(text, 0.5, 1.5, 3)
    for text in (
        *("50x64:64", "50x64:1024", "50x64:16384", "50x1:64", "1x1:64"),
        *("50@20000:64", "50x64:64+both"),
    )
)
# Memory first: a peer that has been busy has room already.
HOLD = Trial("idle", f"{2 * IDLE:,} idle connections", ("--pairs", str(IDLE), "--idle", "1"), 0.5, 1, more=6)
CONNECT = Trial(
    *("opening", "from connecting to being matched"),
    ("--pairs", str(OPENING), "--opening", "1", "--idle", "0.1"),
    *(0, 1),
    more=2,
)
KILL = breaking("kill", "the broker is killed and restarted", "--kill")
CUT = breaking("cut", "all receivers lose their connections", "--cut")
FULL = (HOLD, CONNECT, CUT, KILL, *RELAY)
SCALING = relay("50x64:64", 0.5, 1.5, 3)


def order(trials: Sequence[Trial], peers: Sequence[str], sizes: Sequence[str] = ()) -> list[Step]:
    """Give all steps: what is tried once; CloudMatch in its sizes; then rounds, every other one backwards.

    What drifts while a machine runs (its clock rate, its neighbours) then weighs on all alike, and when time
    runs out it is a repetition that lacks.
    """
    once = [Step(trial, peer, 0) for trial in trials if trial.repetitions == 1 for peer in peers]
    scaling = [Step(SCALING, size, n) for size in sizes for n in range(SCALING.repetitions)]
    rounds = [
        Step(trial, peer, n)
        for n in range(max((trial.repetitions for trial in trials), default=0))
        for trial in trials
        if n < trial.repetitions > 1
        for peer in (peers if n % 2 == 0 else peers[::-1])
    ]
    return [*once, *scaling, *rounds]


def estimate(steps: Sequence[Step]) -> float:
    """How long that takes, s."""
    return sum(step.trial.estimate for step in steps)
