"""The results of all trials with all peers as tables, for terminals and Markdown."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import msgspec

from bench.report import GENERATOR, QUIET, Run, Summary, summarise
from bench.shapes import GRAMMAR
from bench.trials import CONNECT, CUT, HOLD, KILL, OUTAGE, RELAY, SCALING, Trial, relay

NONE, OVERLOADED = "–", "overloaded"
NOT_REACHED = 0.95  # share of an open loop's rate below which a peer counts as overloaded


class PeerInfo(msgspec.Struct, frozen=True):
    """A peer that took part."""

    name: str
    title: str
    parts: str
    promise: str
    versions: dict[str, str]
    redundancy: str = ""  # which of its brokers is killed, if there are several


class Outcome(msgspec.Struct, frozen=True):
    """Outcome of one trial with one peer."""

    trial: str
    peer: str
    repetition: int
    load: float  # load average of the machine over the minute before the trial
    run: Run | None = None
    error: str = ""


class Table(NamedTuple):
    """A table. The first column is text, the others are figures."""

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
    """All outcomes of one run, and the conditions under which they were measured."""

    machine: dict[str, Any]
    peers: list[PeerInfo]
    scales: list[PeerInfo]  # CloudMatch with different numbers of edges and workers
    skipped: dict[str, str]  # the reason, by title
    outcomes: list[Outcome]

    def runs(self, peer: str, trial: str) -> list[Run]:
        """The completed runs of a trial with a peer, one for each repetition."""
        return [o.run for o in self.outcomes if o.run and (o.peer, o.trial) == (peer, trial)]

    def summary(self, peer: str, trial: str) -> Summary | None:
        """Medians of the runs that carried payloads; None if none did."""
        runs = [run for run in self.runs(peer, trial) if run.payloads]
        return summarise(runs) if runs else None

    def relayed(self) -> list[Trial]:
        """The relay trials that were run: the standard ones in their order, then the others."""
        names = {outcome.trial: None for outcome in self.outcomes if GRAMMAR.fullmatch(outcome.trial)}
        standard = [trial for trial in RELAY if trial.name in names]
        return standard + [relay(name, 0, 0, 1) for name in names if name not in {t.name for t in standard}]

    def tables(self) -> list[Table]:
        """All tables that have rows."""
        ratings = (
            ("CPU-µs per payload, all server processes; ± spread of the repetitions", cost),
            ("Payloads per second", rate),
            ("Latency, ms: p50 / p99 / p99.9", latency),
        )
        tables = [self._by_peer(title, text) for title, text in ratings]
        tables += [self._guarantees(), self._scales()]
        return [table for table in tables if table.rows]

    def _by_peer(self, title: str, text: Callable[[Summary, Trial], str]) -> Table:
        rows = []
        for trial in self.relayed():
            summaries = [self.summary(peer.name, trial.name) for peer in self.peers]
            rows.append([trial.title, *(text(each, trial) if each else NONE for each in summaries)])
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
        shown = [n for n in range(len(header)) if any(row[n] != NONE for row in rows)]  # trials that were run
        return Table(
            "Guarantees, promised and observed",
            [header[n] for n in shown],
            [[row[n] for n in shown] for row in rows],
        )

    def _lost(self, peer: str, trial: Trial) -> str:
        outcomes = [o for o in self.outcomes if (o.peer, o.trial) == (peer, trial.name)]
        checks = [o.run.check for o in outcomes if o.run and o.run.check]
        if not checks:
            return "failed" if outcomes else NONE
        which = next(info.redundancy for info in self.peers if info.name == peer)
        note = f" ({which})" if which and trial == KILL else ""
        return f"{checks[0].lost:,} of {checks[0].sent:,}{note}"

    def _scales(self) -> Table:
        rows = []
        for scale in self.scales:
            summary = self.summary(scale.name, SCALING.name)
            if summary:
                figures = (f"{summary.rate:,.0f}", cost(summary, SCALING), latency(summary, SCALING))
                rows.append([scale.title, *figures])
        header = ["CloudMatch", "payloads/s", "CPU-µs per payload", "ms: p50 / p99 / p99.9"]
        return Table(f"More edges and workers on the same {self.machine['cores']} cores", header, rows)

    def caveats(self) -> list[str]:
        """Caveats about these figures."""
        found = [f"{title} was left out: {why}" for title, why in self.skipped.items()]
        titles = {info.name: info.title for info in (*self.peers, *self.scales)}
        errors = {(o.peer, o.trial): o.error.splitlines()[0] for o in self.outcomes if o.error}
        found += [f"{titles[peer]}, {trial}: {error}" for (peer, trial), error in errors.items()]
        for peer in (*self.peers, *self.scales):
            for trial in self.relayed():
                summary = self.summary(peer.name, trial.name)
                if summary is None:
                    continue
                found_here = summary.caveats(other_cores=False)
                lost = sum(run.check.lost for run in self.runs(peer.name, trial.name) if run.check)
                if lost:
                    found_here.append(f"{lost:,} payloads were lost")
                found += [f"{peer.title}, {trial.title}: {caveat}" for caveat in found_here]
        # While something breaks, no server is measured: all of them count as other processes.
        others = [o.run.other_cores for o in self.outcomes if o.run and o.run.processes.keys() > {GENERATOR}]
        if noisy := [cores for cores in others if cores > QUIET]:
            found.append(
                f"In {len(noisy)} of {len(others)} runs other processes used more than {QUIET} "
                f"cores, up to {max(noisy):.2f}"
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
    """Format a figure with its significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def around(value: float, spread: float) -> str:
    """Format a median and half of the spread around it."""
    return f"{figure(value)} ± {min(spread / 2, 9.99):.0%}"


def overloaded(summary: Summary, trial: Trial) -> bool:
    """Whether the peer fell short of the rate of an open loop."""
    target = float(trial.name.partition("@")[2].partition(":")[0] or 0)
    return summary.rate < NOT_REACHED * target


def cost(summary: Summary, trial: Trial) -> str:
    """CPU time per payload; not given for an overloaded peer, which did not deliver all of them."""
    return OVERLOADED if overloaded(summary, trial) else around(summary.servers_us, summary.cost_spread)


def rate(summary: Summary, trial: Trial) -> str:
    """Payloads delivered per second."""
    text = around(summary.rate, summary.spread)
    return f"{text} ({OVERLOADED})" if overloaded(summary, trial) else text


def latency(summary: Summary, trial: Trial) -> str:
    """Percentiles of the latency, ms."""
    if overloaded(summary, trial):
        return OVERLOADED
    return " / ".join(figure(us / 1000) for us in (summary.p50, summary.p99, summary.p999))


def memory(runs: Sequence[Run]) -> str:
    """Memory per idle connection over all server processes, KiB."""
    if not runs:
        return NONE
    growth = [
        sum(use.rss_kib - use.rss_before_kib for name, use in run.processes.items() if name != GENERATOR)
        / run.connections
        for run in runs
    ]
    return figure(median(growth))


def opening(runs: Sequence[Run]) -> str:
    """Percentiles of the time from connecting until a device can send and receive, ms."""
    times = [run.opening_us for run in runs if run.opening_us]
    if not times:
        return NONE
    return " / ".join(figure(median(us) / 1000) for us in ([t.p50 for t in times], [t.p99 for t in times]))


def markdown(result: Comparison, plot: str) -> str:
    """The whole report in Markdown; `plot` is the file name of the picture, empty for none."""
    machine = result.machine
    low, high = result.loads()
    conditions = (
        f"Measured {machine['date'][:10]} at commit {machine['commit']} on {machine['cores']} cores of "
        f"{machine['processor'] or 'an unnamed processor'}, {machine['system']}, Python {machine['python']}; "
        f"load of the machine {low:.1f} to {high:.1f}; the generator used up to "
        f"{result.generator_share():.0%} of a core. Medians; all peers took turns in one run.\n"
    )
    parts = [conditions]
    if plot:
        parts.append(f"![CPU-µs per payload, by peer]({plot})\n")
    parts += [table.markdown for table in result.tables()]
    versions = [
        f"- {peer.title}: {', '.join(f'{name} {version}' for name, version in peer.versions.items())}"
        for peer in result.peers
    ]
    parts.append("\n".join(["Versions:", "", *versions, ""]))
    if caveats := result.caveats():
        parts.append("\n".join(["Caveats:", "", *(f"- {caveat}" for caveat in caveats), ""]))
    return "\n".join(parts)
