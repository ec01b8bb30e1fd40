"""What is tried with each peer, and in which order: no measuring here."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench import shapes

IDLE = 2_500  # pairs that hold connections and say nothing
OPENING = 50  # pairs that connect one after the other
RATE = "50@2000:64"  # what goes on while something breaks
BREAK_AT, OUTAGE = 1.5, 0.5  # s after sending began; s for which the broker is away
OVERHEAD = 0.9  # s of a run, for connecting, the last payloads, and ending


class Trial(NamedTuple):
    """One thing to try."""

    name: str
    title: str
    options: tuple[str, ...]  # of the generator
    warmup: float  # s
    seconds: float  # s
    repetitions: int = 1
    breaks: str = ""  # what breaks meanwhile: "broker", "connections"
    spends: bool = False  # the peer: it is started anew for what comes next
    more: float = 0.0  # s that it takes beyond the usual

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
    """Try how payloads are relayed."""
    shape = shapes.parse(text)
    return Trial(text, shape.title, (*shape.options, "--quiet", "6"), warmup, seconds, repetitions)


def breaking(name: str, title: str, option: str) -> Trial:
    """Try what is lost when something breaks."""
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
# Memory first: what has been busy before has what it needs already.
HOLD = Trial("idle", f"{2 * IDLE:,} idle connections", ("--pairs", str(IDLE), "--idle", "1"), 0.5, 1, more=6)
CONNECT = Trial(
    *("opening", "from connecting to being matched"),
    ("--pairs", str(OPENING), "--opening", "1", "--idle", "0.1"),
    *(0, 1),
    more=2,
)
KILL = breaking("kill", "the broker is killed and started again", "--kill")
CUT = breaking("cut", "all receivers lose their connections", "--cut")
FULL = (HOLD, CONNECT, *RELAY, CUT, KILL)
SCALING = relay("50x64:64", 0.5, 1.5, 3)


def order(trials: Sequence[Trial], peers: Sequence[str]) -> Iterator[Step]:
    """Give all steps: those that are tried once in their place, the others in rounds, each other peers first.

    What drifts while the machine runs (its clock rate, its neighbours) then weighs on all alike.
    """
    once = [trial for trial in trials if trial.repetitions == 1]
    rounds = [trial for trial in trials if trial.repetitions > 1]
    for trial in once:
        if not trial.breaks:
            yield from (Step(trial, peer, 0) for peer in peers)
    for repetition in range(max((trial.repetitions for trial in rounds), default=0)):
        for trial in rounds:
            if repetition < trial.repetitions:
                turn = peers if repetition % 2 == 0 else peers[::-1]
                yield from (Step(trial, peer, repetition) for peer in turn)
    for trial in once:  # last: what broke is not quite what it was
        if trial.breaks:
            yield from (Step(trial, peer, 0) for peer in peers)


def estimate(steps: Sequence[Step]) -> float:
    """How long that takes, s."""
    return sum(step.trial.estimate for step in steps)
