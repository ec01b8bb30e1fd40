"""Compare CloudMatch with other brokers on the same machine, in turn."""

import contextlib
import json
import resource
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
from bench.comparison import About, Comparison, markdown
from bench.machine import ROOT, machine
from bench.peer_runner import PeerRunner
from bench.peers import Peer, PeerMissingError
from bench.peers.cloudmatch import SIZES
from bench.peers.every import PEERS
from bench.plot import Bar, Group, svg
from bench.progress import progress_bar

PLOTTED = ("50x64:64", "50x1:64", "1x1:64")
console = Console(width=max(150, Console().width))


def chosen(names: Sequence[str], folder: Path, *, install: bool) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can take part, and by title why the others cannot; `install` missing ones."""
    known = [peer.name for peer in PEERS]
    if unknown := set(names) - set(known):
        raise typer.BadParameter(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found, skipped = [], {}
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
            found.append(peer)
    return found, skipped


def about(peer: Peer, folder: Path) -> About:
    """Describe a peer."""
    try:
        versions = peer.versions(folder)
    except (PeerMissingError, OSError) as error:
        versions = {"unknown": str(error)}
    return About(peer.name, peer.title, peer.parts, peer.promise, versions, peer.redundancy)


@contextlib.contextmanager
def runners(peers: Sequence[Peer], folder: Path, program: Path) -> Iterator[dict[str, PeerRunner]]:
    """A runner for each peer; all peers that were started are stopped at the end."""
    made = {peer.name: PeerRunner(peer, folder, program) for peer in peers}
    try:
        yield made
    finally:
        for runner in made.values():
            if complaint := runner.stop():
                console.print(f"[yellow]{runner.peer.title}, when stopped: {complaint}[/yellow]")


def measure(
    result: Comparison, steps: Sequence[trials.Step], peers: Sequence[Peer], folder: Path, minutes: float
) -> None:
    """Take all steps for which there is time; Ctrl-C stops and keeps the results so far."""
    bar = progress_bar(console)
    titles = {peer.name: peer.title for peer in peers}
    last = {step.peer: number for number, step in enumerate(steps)}
    end = time.monotonic() + 60 * minutes
    with (
        tempfile.TemporaryDirectory() as build,
        bar,
        runners(peers, folder, generator.build(Path(build))) as of,
    ):
        task = bar.add_task("", total=len(steps))
        try:
            for number, step in enumerate(steps):
                if time.monotonic() > end:
                    left = len(steps) - number
                    result.skipped[f"{left} of {len(steps)} runs"] = "no time was left"
                    break
                bar.update(task, description=f"{titles[step.peer]}: {step.trial.title}")
                result.outcomes.append(of[step.peer].attempt(step.trial, step.repetition))
                bar.advance(task)
                if number == last[step.peer]:
                    of[step.peer].stop()
        except KeyboardInterrupt:
            console.print("[yellow]stopped: results so far[/yellow]")


def picture(result: Comparison) -> str:
    """The cost of a payload as SVG; empty when nothing was measured."""
    groups = []
    for trial in trials.RELAY:
        found = [(peer, result.summary(peer.name, trial.name)) for peer in result.peers]
        bars = [Bar(p.title, s.servers_us, p.name in ("cloudmatch", "classic")) for p, s in found if s]
        if bars and trial.name in PLOTTED:
            groups.append(Group(trial.title, bars))
    return (
        svg("CPU-µs per payload of all server processes (logarithmic; less is better)", groups)
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
    """Write JSON, Markdown and picture."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"compare-{result.machine['date'].replace(':', '')}"
    (folder / f"{name}.json").write_text(json.dumps(msgspec.to_builtins(result), indent=1))
    drawn = picture(result)
    for file in filter(None, (folder / f"{name}.md", report)):
        if drawn:
            file.with_suffix(".svg").write_text(drawn)
        file.write_text(markdown(result, file.with_suffix(".svg").name if drawn else ""))
    console.print(f"Kept: {folder / name}.json, .md, .svg")


def main(
    peer: Annotated[list[str] | None, typer.Argument(help="Which peers. Default: all.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two shapes, installed peers only; two minutes.")
    ] = False,
    shape: Annotated[list[str] | None, typer.Option(help="Relay these shapes only, e.g. 50x64:64.")] = None,
    install: Annotated[bool, typer.Option(help="Install peers that are missing.")] = True,
    minutes: Annotated[float, typer.Option(help="At most; remaining runs are left out.")] = 15,
    report: Annotated[
        Path | None, typer.Option(help="Write the Markdown here, the picture beside it.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where results and peers are kept.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure CloudMatch against its peers: each payload numbered and checked, CPU of all server processes.

    Examples: `make bench`, `make bench-quick`, `make bench ARGS='cloudmatch socketio --shape 1x1:64'`.
    """
    folder = folder.resolve()
    programs = folder / "peers"
    (programs / "run").mkdir(parents=True, exist_ok=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for thousands of connections
    peers, skipped = chosen(peer or [], programs, install=install and not quick)
    chosen_trials = trials.QUICK if quick else trials.FULL
    try:
        if shape:
            chosen_trials = tuple(trials.relay(text, 0.5, 1.5, 2 if quick else 3) for text in shape)
    except trials.shapes.ShapeError as error:
        raise typer.BadParameter(str(error)) from None
    sizes = () if quick or shape or (peer and "cloudmatch" not in peer) else SIZES
    steps = trials.order(chosen_trials, [each.name for each in peers], [each.name for each in sizes])
    console.print(
        f"{len(steps)} runs with {', '.join(each.title for each in peers)}: "
        f"about {trials.estimate(steps) / 60 + 0.5:.0f} minutes. Ctrl-C stops and shows the results so far."
    )
    result = Comparison(
        machine=machine(),
        peers=[about(each, programs) for each in peers],
        sizes=[about(each, programs) for each in sizes],
        skipped=skipped,
        outcomes=[],
    )
    try:
        measure(result, steps, [*peers, *sizes], programs, minutes)
    except generator.GeneratorError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    show(result)
    keep(result, folder, report)


if __name__ == "__main__":
    typer.run(main)
