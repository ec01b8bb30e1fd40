"""Measure the relay: two edges, one worker and one NATS server under the load generator."""

import json
import tempfile
from collections.abc import Sequence
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
    """Return the run if every payload arrived once, in order, undamaged.

    Raises:
        GeneratorError: some did not.
    """
    if not run.valid:
        raise generator.GeneratorError(
            f"{shape.title}: payloads lost, repeated, reordered or damaged: {run.check}"
        )
    return run


def measure(
    chosen: Sequence[shapes.Shape], repetitions: int, seconds: float
) -> dict[shapes.Shape, list[Run]]:
    """Run all shapes in alternation on one stack; return their runs.

    Raises:
        GeneratorError: the generator failed, or a run is not valid.
    """
    runs: dict[shapes.Shape, list[Run]] = {shape: [] for shape in chosen}
    bar = progress_bar(console)
    with tempfile.TemporaryDirectory() as build, bar:
        task = bar.add_task("starting", total=repetitions * len(chosen))
        program = generator.build(Path(build))
        with stack() as running:
            for repetition in range(repetitions):
                for number, shape in enumerate(chosen):
                    bar.update(task, description=shape.title)
                    run = generator.run(
                        program,
                        running.ports,
                        running.pids,
                        shape.options,
                        app=f"bench-{repetition}-{number}",
                        warmup=1,
                        seconds=seconds,
                    )
                    runs[shape].append(valid(shape, run))
                    bar.advance(task)
    return runs


def caveats(rows: list[tuple[shapes.Shape, Summary]]) -> list[str]:
    """Reasons to distrust the figures, each with the shape to which it applies."""
    return [f"{shape.title}: {caveat}" for shape, summary in rows for caveat in summary.caveats()]


def table(rows: list[tuple[shapes.Shape, Summary]]) -> Table:
    """Lay out the medians as a table."""
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
    for shape, summary in rows:
        made.add_row(
            shape.title,
            f"{summary.rate:,.0f}",
            f"{summary.spread:.0%}",
            f"{summary.p50 / 1000:.2f}",
            f"{summary.p99 / 1000:.2f}",
            f"{summary.servers_us:.1f}",
            *(f"{summary.cpu_us[name]:.1f}" for name in ("edge-a", "nats-server", "worker", "edge-b")),
            f"{summary.cores[GENERATOR]:.0%}",
        )
    return made


def main(
    shape: Annotated[
        list[str] | None,
        typer.Argument(
            help="PAIRSxWINDOW:SIZE or PAIRS@RATE:SIZE, '+both' for both ways. Default: six shapes."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short repetition of each shape.")] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="Repetitions of each shape, in alternation.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=0.2, help="Duration of each, after one second of warm-up.")
    ] = 4.0,
    folder: Annotated[Path, typer.Option(help="Folder of the JSON file.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure the relay from socket to socket; every payload is checked.

    Examples: `make bench WHAT=relay`, `make bench WHAT=relay ARGS=--quick`,
    `make bench WHAT=relay ARGS='50x64:64 1x1:64'`.
    """
    if quick:
        repetitions, seconds = 1, 1.5
    try:
        chosen = [shapes.parse(text) for text in shape or []] or list(shapes.RELAY)
    except shapes.ShapeError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        runs = measure(chosen, repetitions, seconds)
    except generator.GeneratorError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    rows = [(each, summarise(of)) for each, of in runs.items()]
    console.print(table(rows))
    for caveat in caveats(rows):
        console.print(f"[yellow]{caveat}[/yellow]")
    about = machine()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"relay-{about['date'].replace(':', '')}.json"
    file.write_text(
        json.dumps({**about, "runs": {str(s): msgspec.to_builtins(of) for s, of in runs.items()}})
    )
    console.print(f"All repetitions: {file}")


if __name__ == "__main__":
    typer.run(main)
