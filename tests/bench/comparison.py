"""Results of all trials with all peers as tables, for terminals and Markdown."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import msgspec

from bench.report import GENERATOR, STRANGERS, Run, Summary, summarise
from bench.shapes import GRAMMAR
from bench.trials import CONNECT, CUT, HOLD, KILL, OUTAGE, RELAY, SCALING, Trial, relay

NONE, OVERLOADED = "–", "overloaded"
NOT_REACHED = 0.95  # of the rate of an open loop: a peer that delivers less is overloaded


class About(msgspec.Struct, frozen=True):
    """A peer that took part."""

    name: str
    title: str
    parts: str
    promise: str
    versions: dict[str, str]
    redundancy: str = ""  # which of its brokers is killed, if it has more than one


class Outcome(msgspec.Struct, frozen=True):
    """Outcome of one trial with one peer."""

    trial: str
    peer: str
    repetition: int
    load: float  # of the machine, in processes, over the last minute, when it began
    run: Run | None = None
    error: str = ""


class Table(NamedTuple):
    """A table; its first column is text, the others are figures."""

    title: str
    header: list[str]
    rows: list[list[str]]

    @property
    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"**{self.title}**", ""]
        lines.append(f"| {' | '.join(self.header)} |")
        lines.append("|---|" + "---:|" * (len(self.header) - 1))
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


class Comparison(msgspec.Struct):
    """A whole run."""

    machine: dict[str, Any]
    peers: list[About]
    sizes: list[About]  # CloudMatch, of several sizes
    skipped: dict[str, str]  # why, by title
    outcomes: list[Outcome]

    def runs(self, peer: str, trial: str) -> list[Run]:
        """The runs of all repetitions."""
        return [o.run for o in self.outcomes if o.run and (o.peer, o.trial) == (peer, trial)]

    def summary(self, peer: str, trial: str) -> Summary | None:
        """Medians of the runs that carried payloads; None if none did."""
        runs = [run for run in self.runs(peer, trial) if run.payloads]
        return summarise(runs) if runs else None

    def relayed(self) -> list[Trial]:
        """The relay trials that were run, the usual ones first and in their order."""
        tried = {outcome.trial: None for outcome in self.outcomes if GRAMMAR.fullmatch(outcome.trial)}
        usual = [trial for trial in RELAY if trial.name in tried]
        return usual + [relay(name, 0, 0, 1) for name in tried if name not in {t.name for t in usual}]

    def tables(self) -> list[Table]:
        """All tables that have rows."""
        ratings = (
            ("CPU-µs per payload, all server processes; ± spread of the repetitions", cost),
            ("Payloads per second", rate),
            ("Latency, ms: p50 / p99 / p99.9", latency),
        )
        tables = [self._by_peer(title, text) for title, text in ratings]
        tables += [self._guarantees(), self._sizes()]
        return [table for table in tables if table.rows]

    def _by_peer(self, title: str, text: Callable[[Summary, Trial], str]) -> Table:
        rows = []
        for trial in self.relayed():
            found = [self.summary(peer.name, trial.name) for peer in self.peers]
            rows.append([trial.title, *(text(of, trial) if of else NONE for of in found)])
        return Table(title, ["", *(peer.title for peer in self.peers)], rows)

    def _guarantees(self) -> Table:
        header = [
            *("", "promise", "order kept", "repeated"),
            *(f"lost, broker killed for {OUTAGE} s", "lost, receivers cut off for 0.5 s"),
            *("KiB per idle connection", "connect to matched, ms: p50 / p99"),
        ]
        rows = []
        for peer in self.peers:
            runs = [run for o in self.outcomes if o.peer == peer.name and (run := o.run)]
            checks = [run.check for run in runs if run.check]
            if not checks:
                continue
            rows.append(
                [
                    f"{peer.title} ({peer.parts})",
                    peer.promise,
                    "yes" if not any(check.reordered for check in checks) else "no",
                    f"{sum(check.repeated for check in checks):,}",
                    *(self._lost(peer.name, trial) for trial in (KILL, CUT)),
                    *(
                        text(self.runs(peer.name, trial.name))
                        for text, trial in ((memory, HOLD), (opening, CONNECT))
                    ),
                ]
            )
        shown = [n for n in range(len(header)) if any(row[n] != NONE for row in rows)]  # all that was tried
        return Table(
            "Guarantees, and what was observed",
            [header[n] for n in shown],
            [[row[n] for n in shown] for row in rows],
        )

    def _lost(self, peer: str, trial: Trial) -> str:
        outcomes = [o for o in self.outcomes if (o.peer, o.trial) == (peer, trial.name)]
        checks = [o.run.check for o in outcomes if o.run and o.run.check]
        if not checks:
            return "failed" if outcomes else NONE
        which = next(about.redundancy for about in self.peers if about.name == peer)
        note = f" ({which})" if which and trial == KILL else ""
        return f"{checks[0].lost:,} of {checks[0].sent:,}{note}"

    def _sizes(self) -> Table:
        rows = []
        for size in self.sizes:
            of = self.summary(size.name, SCALING.name)
            if of:
                rows.append([size.title, f"{of.rate:,.0f}", cost(of, SCALING), latency(of, SCALING)])
        header = ["CloudMatch", "payloads/s", "CPU-µs per payload", "ms: p50 / p99 / p99.9"]
        return Table(f"More edges and workers on the same {self.machine['cores']} cores", header, rows)

    def caveats(self) -> list[str]:
        """Caveats about these figures."""
        found = [f"{title} was left out: {why}" for title, why in self.skipped.items()]
        titles = {about.name: about.title for about in (*self.peers, *self.sizes)}
        errors = {(o.peer, o.trial): o.error.splitlines()[0] for o in self.outcomes if o.error}
        found += [f"{titles[peer]}, {trial}: {error}" for (peer, trial), error in errors.items()]
        for peer in (*self.peers, *self.sizes):
            for trial in self.relayed():
                of = self.summary(peer.name, trial.name)
                if of is None:
                    continue
                found_here = of.caveats(strangers=False)
                lost = sum(run.check.lost for run in self.runs(peer.name, trial.name) if run.check)
                if lost:
                    found_here.append(f"{lost:,} payloads were lost")
                found += [f"{peer.title}, {trial.title}: {caveat}" for caveat in found_here]
        # Where a broker is killed no server is measured: all count as other processes.
        others = [o.run.strangers for o in self.outcomes if o.run and o.run.processes.keys() > {GENERATOR}]
        if crowded := [cores for cores in others if cores > STRANGERS]:
            found.append(
                f"In {len(crowded)} of {len(others)} runs other processes used more than {STRANGERS} "
                f"cores, up to {max(crowded):.2f}"
            )
        return found

    def generator_share(self) -> float:
        """The largest share of a core that the generator needed."""
        uses = [o.run.processes[GENERATOR].cores for o in self.outcomes if o.run and o.run.payloads]
        return max(uses, default=0.0)

    def loads(self) -> tuple[float, float]:
        """The lowest and highest load of the machine."""
        loads = [outcome.load for outcome in self.outcomes]
        return min(loads, default=0.0), max(loads, default=0.0)


def figure(value: float) -> str:
    """A figure with its significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def around(value: float, spread: float) -> str:
    """A median and half of its spread."""
    return f"{figure(value)} ± {min(spread / 2, 9.99):.0%}"


def overloaded(of: Summary, trial: Trial) -> bool:
    """Whether the rate of an open loop was not reached."""
    wanted = float(trial.name.partition("@")[2].partition(":")[0] or 0)
    return of.rate < NOT_REACHED * wanted


def cost(of: Summary, trial: Trial) -> str:
    """Cost of a payload; none for an overloaded peer, which did not deliver most of them."""
    return OVERLOADED if overloaded(of, trial) else around(of.servers_us, of.cost_spread)


def rate(of: Summary, trial: Trial) -> str:
    """Payloads delivered per second."""
    text = around(of.rate, of.spread)
    return f"{text} ({OVERLOADED})" if overloaded(of, trial) else text


def latency(of: Summary, trial: Trial) -> str:
    """Latency of a payload."""
    if overloaded(of, trial):
        return OVERLOADED
    return " / ".join(figure(us / 1000) for us in (of.p50, of.p99, of.p999))


def memory(runs: Sequence[Run]) -> str:
    """Memory of an idle connection, in KiB of all server processes."""
    if not runs:
        return NONE
    grown = [
        sum(use.rss_kib - use.rss_before_kib for name, use in run.processes.items() if name != GENERATOR)
        / run.connections
        for run in runs
    ]
    return figure(median(grown))


def opening(runs: Sequence[Run]) -> str:
    """Time from connecting until a device can send and receive."""
    times = [run.opening_us for run in runs if run.opening_us]
    if not times:
        return NONE
    return " / ".join(figure(median(us) / 1000) for us in ([t.p50 for t in times], [t.p99 for t in times]))


def markdown(of: Comparison, plot: str) -> str:
    """The whole report in Markdown; `plot`: file name of the picture, empty for none."""
    machine = of.machine
    low, high = of.loads()
    about = (
        f"Measured {machine['date'][:10]} at commit {machine['commit']} on {machine['cores']} cores of "
        f"{machine['processor'] or 'an unnamed processor'}, {machine['system']}, Python {machine['python']}; "
        f"load of the machine {low:.1f} to {high:.1f}; the generator used up to "
        f"{of.generator_share():.0%} of a core. Medians, all peers in one run, by turns.\n"
    )
    parts = [about]
    if plot:
        parts.append(f"![CPU-µs per payload, by peer]({plot})\n")
    parts += [table.markdown for table in of.tables()]
    versions = [
        f"- {peer.title}: {', '.join(f'{name} {version}' for name, version in peer.versions.items())}"
        for peer in of.peers
    ]
    parts.append("\n".join(["Versions:", "", *versions, ""]))
    if caveats := of.caveats():
        parts.append("\n".join(["Caveats:", "", *(f"- {caveat}" for caveat in caveats), ""]))
    return "\n".join(parts)
