"""Compare CloudMatch with other brokers, in turn on the same machine."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import rich.table
import typer
from rich.console import Console

from bench import generator, trials
from bench.comparison import Comparison, PeerInfo, markdown
from bench.machine import ROOT, machine
from bench.peer_runner import PeerRunner
from bench.peers import Peer, PeerMissingError
from bench.peers.all_peers import PEERS
from bench.peers.cloudmatch import SCALES
from bench.plot import Bar, Group, svg
from bench.progress import progress_bar
from cloudmatch_bus.process.descriptors import raise_limit

PLOTTED = ("50x64:64", "50x1:64", "1x1:64")
console = Console(width=max(150, Console().width))


def chosen(names: Sequence[str], folder: Path, *, install: bool) -> tuple[list[Peer], dict[str, str]]:
    """The peers that take part, and by title the reasons why others do not; `install` missing ones."""
    known = [peer.name for peer in PEERS]
    if unknown := set(names) - set(known):
        raise typer.BadParameter(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    available, skipped = [], {}
    for peer in PEERS:
        if names and peer.name not in names:
            continue
        missing = peer.missing(folder)
        try:
            if missing and install:
                console.print(f"installing {peer.title} ({missing} is missing)")
                peer.install(folder)
                missing = peer.missing(folder)
        except (PeerMissingError, OSError) as error:
            missing = str(error)
        if missing:
            skipped[peer.title] = f"not installed: {missing}"
        else:
            available.append(peer)
    return available, skipped


def describe(peer: Peer, folder: Path) -> PeerInfo:
    """Describe a peer, with the installed versions."""
    try:
        versions = peer.versions(folder)
    except (PeerMissingError, OSError) as error:
        versions = {"unknown": str(error)}
    return PeerInfo(peer.name, peer.title, peer.parts, peer.promise, versions, peer.redundancy)


@contextlib.contextmanager
def runners(peers: Sequence[Peer], folder: Path, program: Path) -> Iterator[dict[str, PeerRunner]]:
    """Yield a runner for each peer, by name; stop at the end those that were started."""
    by_name = {peer.name: PeerRunner(peer, folder, program) for peer in peers}
    try:
        yield by_name
    finally:
        for runner in by_name.values():
            if error := runner.stop():
                console.print(f"[yellow]{runner.peer.title}, while stopping: {error}[/yellow]")


def measure(
    result: Comparison, steps: Sequence[trials.Step], peers: Sequence[Peer], folder: Path, minutes: float
) -> None:
    """Run the steps until time is up; Ctrl-C stops and keeps the results so far."""
    bar = progress_bar(console)
    titles = {peer.name: peer.title for peer in peers}
    last = {step.peer: number for number, step in enumerate(steps)}
    end = time.monotonic() + 60 * minutes
    with (
        tempfile.TemporaryDirectory() as build,
        bar,
        runners(peers, folder, generator.build(Path(build))) as by_name,
    ):
        task = bar.add_task("", total=len(steps))
        try:
            for number, step in enumerate(steps):
                if time.monotonic() > end:
                    left = len(steps) - number
                    result.skipped[f"{left} of {len(steps)} runs"] = "time was up"
                    break
                bar.update(task, description=f"{titles[step.peer]}: {step.trial.title}")
                result.outcomes.append(by_name[step.peer].attempt(step.trial, step.repetition))
                bar.advance(task)
                if number == last[step.peer]:
                    by_name[step.peer].stop()
        except KeyboardInterrupt:
            console.print("[yellow]stopped: results so far[/yellow]")


def picture(result: Comparison) -> str:
    """Draw the cost of a payload as SVG; empty if nothing was measured."""
    groups = []
    for trial in trials.RELAY:
        costs = [(peer, result.summary(peer.name, trial.name)) for peer in result.peers]
        bars = [Bar(p.title, s.servers_us, p.name in ("cloudmatch", "classic")) for p, s in costs if s]
        if bars and trial.name in PLOTTED:
            groups.append(Group(trial.title, bars))
    return (
        svg("CPU-µs per payload of all server processes (logarithmic; lower is better)", groups)
        if groups
        else ""
    )


def show(result: Comparison) -> None:
    """Print the tables and caveats."""
    for table in result.tables():
        drawn = rich.table.Table(title=table.title, title_justify="left")
        for column in table.header:
            drawn.add_column(column, justify="right" if column else "left")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)
    console.print(f"The generator used up to {result.generator_share():.0%} of a core.")
    for caveat in result.caveats():
        console.print(f"[yellow]{caveat}[/yellow]")


def keep(result: Comparison, folder: Path, report: Path | None) -> None:
    """Write JSON, Markdown and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"compare-{result.machine['date'].replace(':', '')}"
    (folder / f"{name}.json").write_text(json.dumps(msgspec.to_builtins(result), indent=1))
    drawn = picture(result)
    for file in filter(None, (folder / f"{name}.md", report)):
        if drawn:
            file.with_suffix(".svg").write_text(drawn)
        file.write_text(markdown(result, file.with_suffix(".svg").name if drawn else ""))
    console.print(f"Report: {folder / name}.json, .md, .svg")


def main(
    peer: Annotated[list[str] | None, typer.Argument(help="Peers to compare. Default: all.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two shapes, installed peers only, two minutes.")
    ] = False,
    shape: Annotated[list[str] | None, typer.Option(help="Run only these shapes, e.g. 50x64:64.")] = None,
    install: Annotated[bool, typer.Option(help="Install peers that are missing.")] = True,
    minutes: Annotated[float, typer.Option(help="Time limit; runs that remain are left out.")] = 15,
    report: Annotated[
        Path | None, typer.Option(help="Also write the Markdown here, and the picture beside it.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder of results and installed peers.")] = ROOT
    / ".run"
    / "bench",
) -> None:
    """Compare CloudMatch with its peers: throughput, latency, CPU of all server processes, losses.

    Examples: `make bench`, `make bench-quick`, `make bench ARGS='cloudmatch socketio --shape 1x1:64'`.
    """
    folder = folder.resolve()
    programs = folder / "peers"
    (programs / "run").mkdir(parents=True, exist_ok=True)
    raise_limit()  # for thousands of connections
    peers, skipped = chosen(peer or [], programs, install=install and not quick)
    chosen_trials = trials.QUICK if quick else trials.FULL
    try:
        if shape:
            chosen_trials = tuple(trials.relay(text, 0.5, 1.5, 2 if quick else 3) for text in shape)
    except trials.shapes.ShapeError as error:
        raise typer.BadParameter(str(error)) from None
    scales = () if quick or shape or (peer and "cloudmatch" not in peer) else SCALES
    steps = trials.order(chosen_trials, [each.name for each in peers], [each.name for each in scales])
    console.print(
        f"{len(steps)} runs with {', '.join(each.title for each in peers)}: "
        f"about {trials.estimate(steps) / 60 + 0.5:.0f} minutes. Ctrl-C stops and shows the results so far."
    )
    result = Comparison(
        machine=machine(),
        peers=[describe(each, programs) for each in peers],
        scales=[describe(each, programs) for each in scales],
        skipped=skipped,
        outcomes=[],
    )
    try:
        measure(result, steps, [*peers, *scales], programs, minutes)
    except generator.GeneratorError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    show(result)
    keep(result, folder, report)


if __name__ == "__main__":
    typer.run(main)
