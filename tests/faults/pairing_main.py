"""The command: ``python -m faults.pairing_main``."""

import sys
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from faults.pairing import Report, Trial, pairing_cluster

console = Console(highlight=False, width=max(130, Console().width))
COLUMNS = (
    *("seed", "faults", "devices", "matches", "repeated", "s", "paired s", "published s"),
    *("stuck", "double", "asymmetric", "other"),
)


async def _run(seeds: list[int], devices: int, faults: int) -> list[Report]:
    reports = []
    async with pairing_cluster() as under_test:
        for seed in seeds:
            trial = Trial(under_test, seed, devices, faults, lambda what: console.print(f"[dim]{what}[/]"))
            reports.append(await trial.run())
            console.print(f"seed {seed}: {reports[-1].matches} matches, {reports[-1].verdict}")
    return reports


def table(reports: list[Report]) -> Table:
    """Show the results of all seeds."""
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
            str(verdict.ghosts + verdict.unaware + verdict.unpublished),
        )
    return made


def main(
    seed: Annotated[int, typer.Option(help="The first seed.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run.")] = 20,
    devices: Annotated[int, typer.Option(min=10, help="Devices per seed.")] = 2000,
    faults: Annotated[int, typer.Option(min=0, help="Faults per seed.")] = 4,
) -> None:
    """Kill workers and NATS leaders while devices arrive in bursts on three edges, and check the matches.

    Exit status: 0 if every device with a possible peer was matched once, symmetrically, and notified.
    """
    reports = uvloop.run(_run(list(range(seed, seed + seeds)), devices, faults))
    console.print(table(reports))
    if not all(report.verdict.valid for report in reports):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
