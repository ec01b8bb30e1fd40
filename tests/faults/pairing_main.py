"""The command: ``python -m faults.pairing_main``."""

import sys
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from faults.pairing import Report, Trial, ground

console = Console(highlight=False, width=max(130, Console().width))
COLUMNS = (
    *("seed", "faults", "devices", "matches", "asked again", "s", "paired s", "told s"),
    *("stuck", "double", "asymmetric", "other"),
)


async def _run(seeds: list[int], devices: int, faults: int) -> list[Report]:
    reports = []
    async with ground() as under:
        for seed in seeds:
            trial = Trial(under, seed, devices, faults, lambda what: console.print(f"[dim]{what}[/]"))
            reports.append(await trial.run())
            console.print(f"seed {seed}: {reports[-1].matches} matches, {reports[-1].verdict}")
    return reports


def table(reports: list[Report]) -> Table:
    """Draw what came of it."""
    made = Table()
    for column in COLUMNS:
        made.add_column(column, justify="right")
    for report in reports:
        verdict = report.verdict
        made.add_row(
            str(report.seed),
            str(len(report.faults)),
            f"{report.devices:,}",
            f"{report.matches:,}",
            f"{report.repeated:,}",
            f"{report.seconds:.1f}",
            f"{report.paired:.1f}",
            f"{report.settled:.1f}",
            str(verdict.stuck),
            str(verdict.double),
            str(verdict.asymmetric),
            str(verdict.ghosts + verdict.unaware + verdict.untold),
        )
    return made


def main(
    seed: Annotated[int, typer.Option(help="The first.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    devices: Annotated[int, typer.Option(min=10, help="In each.")] = 2000,
    faults: Annotated[int, typer.Option(min=0, help="In each.")] = 4,
) -> None:
    """Kill workers and NATS leaders while devices arrive in bursts on three edges, and judge the pairing.

    Exit status: 0 when everyone with a partner in reach was matched, exactly once, symmetrically, and told.
    """
    reports = uvloop.run(_run(list(range(seed, seed + seeds)), devices, faults))
    console.print(table(reports))
    if not all(report.verdict.kept for report in reports):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
