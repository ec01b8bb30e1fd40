"""Measure the relay: two edges, one worker and one NATS server, loaded by the generator."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bench import generator, shapes
from bench.machine import ROOT, machine
from bench.progress import progress_bar
from bench.report import GENERATOR, Run, Summary, summarise
from bench.stack import stack

console = Console(width=max(120, Console().width))


def valid(shape: shapes.Shape, run: Run) -> Run:
    """Give a run in which every payload arrived once, in order, undamaged.

    Raises:
        GeneratorError: one did not.
    """
    if not run.valid:
        raise generator.GeneratorError(f"{shape.title}: payloads went wrong: {run.check}")
    return run


def table(rows: list[tuple[shapes.Shape, Summary]]) -> Table:
    """Draw the medians."""
    made = Table(
        title="relay: medians; CPU-µs per payload; load: the generator's share of a core",
        title_justify="left",
    )
    for column in (
        "shape",
        "payloads/s",
        "± %",
        "p50 ms",
        "p99 ms",
        "CPU-µs",
        "edge-a",
        "nats",
        "worker",
        "edge-b",
    ):
        made.add_column(column, justify="left" if column == "shape" else "right", no_wrap=True)
    made.add_column("load", justify="right")
    for shape, of in rows:
        made.add_row(
            shape.title,
            f"{of.rate:,.0f}",
            f"{of.spread:.0%}",
            f"{of.p50 / 1000:.2f}",
            f"{of.p99 / 1000:.2f}",
            f"{of.servers_us:.1f}",
            *(f"{of.cpu_us[name]:.1f}" for name in ("edge-a", "nats-server", "worker", "edge-b")),
            f"{of.cores[GENERATOR]:.0%}",
        )
    return made


def main(
    shape: Annotated[
        list[str] | None,
        typer.Argument(
            help="PAIRSxWINDOW:SIZE or PAIRS@RATE:SIZE, '+both' for both ways. Default: six of them."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short repetition of each.")] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="Of each shape, in alternation.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.2, help="Measured, after a second of warming up.")] = 4.0,
    folder: Annotated[Path, typer.Option(help="Where the JSON goes.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure the relay from socket to socket, with all its guarantees, each payload checked.

    Examples: `make bench WHAT=relay`, `make bench WHAT=relay ARGS=--quick`,
    `make bench WHAT=relay ARGS='50x64:64 1x1:64'`.
    """
    if quick:
        repetitions, seconds = 1, 1.5
    try:
        chosen = [shapes.parse(text) for text in shape or []] or list(shapes.RELAY)
    except shapes.ShapeError as error:
        raise typer.BadParameter(str(error)) from None
    runs: dict[shapes.Shape, list[Run]] = {each: [] for each in chosen}
    bar = progress_bar(console)
    try:
        with tempfile.TemporaryDirectory() as build, bar:
            task = bar.add_task("starting", total=repetitions * len(chosen))
            program = generator.build(Path(build))
            with stack() as under:
                for repetition in range(repetitions):
                    for each in chosen:
                        bar.update(task, description=each.title)
                        app = f"bench-{repetition}-{chosen.index(each)}"
                        run = generator.run(
                            program, under.ports, under.pids, each.options, app=app, warmup=1, seconds=seconds
                        )
                        runs[each].append(valid(each, run))
                        bar.advance(task)
    except generator.GeneratorError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    rows = [(each, summarise(of)) for each, of in runs.items()]
    console.print(table(rows))
    for each, of in rows:
        for doubt in of.doubts():
            console.print(f"[yellow]{each.title}: {doubt}[/yellow]")
    about = machine()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"relay-{about['date'].replace(':', '')}.json"
    file.write_text(
        json.dumps({**about, "runs": {str(s): msgspec.to_builtins(of) for s, of in runs.items()}})
    )
    console.print(f"All repetitions: {file}")


if __name__ == "__main__":
    typer.run(main)
