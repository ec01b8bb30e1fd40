"""Measure what becomes of facts: the journal, the bridge to RabbitMQ, and the windows of analytics.

Each part is a module of its own with a function that measures it and gives rows::

    async def measure(progress: Progress, quick: bool) -> list[Row]

`progress` is rich's: a part adds its own task (``progress.add_task("journal: fresh", total=…)``) and
advances it. `quick` asks for a run of seconds that shows only that the part can be measured.
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

PARTS = ("journal", "bridge", "analytics")
console = Console(width=max(110, Console().width))


class Row(NamedTuple):
    """One figure."""

    part: str  # the process that it is about
    what: str  # what was measured, in a few words
    value: float
    unit: str
    goal: str = ""  # what it should be, in words; empty: nothing is promised
    met: bool | None = None  # whether it is so


Measure = Callable[[Progress, bool], Awaitable[list[Row]]]


def parts() -> dict[str, Measure]:
    """Give the parts that there are."""
    found = {}
    for part in PARTS:
        name = f"bench.facts_{part}"
        if importlib.util.find_spec(name):
            found[part] = importlib.import_module(name).measure
    return found


def number(value: float) -> str:
    """Write a figure with three digits that say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows: list[Row]) -> Table:
    """Draw the figures."""
    made = Table(title="facts: what becomes of them, and what it costs", title_justify="left")
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
    part: Annotated[list[str] | None, typer.Argument(help="Which parts. Default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Seconds, not minutes; rough figures.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the JSON goes.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure journal, bridge and analytics, each alone with the servers that it needs.

    Examples: `make bench WHAT=facts`, `make bench WHAT=facts ARGS=--quick`,
    `make bench WHAT=facts ARGS='journal bridge'`.
    """
    known = parts()
    if strangers := set(part or ()) - set(known):
        raise typer.BadParameter(
            f"no such part: {', '.join(sorted(strangers))}; there are {', '.join(known)}"
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
