"""Measure the consumers of facts: the journal, the bridge to RabbitMQ, analytics, and a whole system.

Each part is a module with a function that measures it::

    async def measure(progress: Progress, quick: bool) -> list[Row]

A part adds its own tasks to `progress` (``progress.add_task("journal: facts", total=…)``). A `quick` run
takes seconds and only shows that the part can be measured.
"""

import asyncio
import importlib
import importlib.util
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.machine import ROOT, machine

PARTS = ("journal", "bridge", "analytics", "stack")
console = Console(width=max(110, Console().width))


class Row(NamedTuple):
    """One figure."""

    part: str  # the measured process
    what: str  # the measured quantity, in a few words
    value: float
    unit: str
    goal: str = ""  # e.g. "≤ 5"; empty: none
    met: bool | None = None  # whether the goal was met; None: not judged


Measure = Callable[[Progress, bool], Awaitable[list[Row]]]


def parts() -> dict[str, Measure]:
    """Return the measuring functions of all parts, by name."""
    found = {}
    for part in PARTS:
        name = f"bench.facts_{part}"
        if importlib.util.find_spec(name):
            found[part] = importlib.import_module(name).measure
    return found


def number(value: float) -> str:
    """Format a figure with three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows: list[Row]) -> Table:
    """Lay out the figures as a table."""
    made = Table(title="consumers of facts: throughput and cost", title_justify="left")
    for column in ("part", "what", "value", "unit", "goal", ""):
        made.add_column(column, justify="right" if column == "value" else "left")
    marks = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}
    for row, before in zip(rows, [None, *rows], strict=False):
        if before is not None and before.part != row.part:
            made.add_section()
        made.add_row(row.part, row.what, number(row.value), row.unit, row.goal, marks[row.met])
    return made


async def _all(chosen: dict[str, Measure], progress: Progress, quick: bool) -> list[Row]:
    return [row for measure in chosen.values() for row in await measure(progress, quick)]


def main(
    part: Annotated[list[str] | None, typer.Argument(help="Parts to measure. Default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Seconds, not minutes; rough figures.")] = False,
    folder: Annotated[Path, typer.Option(help="Folder of the JSON file.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure journal, bridge and analytics, each with only the servers that it needs, and a whole system.

    Examples: `make bench WHAT=facts`, `make bench WHAT=facts ARGS=--quick`,
    `make bench WHAT=facts ARGS='journal bridge'`.
    """
    known = parts()
    if unknown := set(part or ()) - set(known):
        raise typer.BadParameter(
            f"no such part: {', '.join(sorted(unknown))}; choose from {', '.join(known)}"
        )
    chosen = {name: measure for name, measure in known.items() if not part or name in part}
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console)
    with bar:
        rows = asyncio.run(_all(chosen, bar, quick))
    console.print(table(rows))
    about = machine()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"facts-{about['date'].replace(':', '')}.json"
    file.write_text(json.dumps({**about, "quick": quick, "rows": [row._asdict() for row in rows]}, indent=1))
    console.print(f"All figures: {file}")


if __name__ == "__main__":
    typer.run(main)
