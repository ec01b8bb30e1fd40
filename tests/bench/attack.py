"""Measure what one hostile client does to its neighbours: one edge, one worker, a pair that echoes."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness import Service, eventually, nats_server, service
from harness.bystanders import bystanders
from harness.floods import FLOODS, flooding
from harness.turns import Turns

MIB = 1 << 20
WAIT = 20.0  # s that a flood may take to end after its time


def memory(edge: Service, *, forget: bool = False) -> int:
    """Return the most memory that an edge has used since it was last forgotten, in bytes."""
    if forget:
        Path(f"/proc/{edge.process.pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{edge.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


async def attack(name: str, url: str, seconds: float, turns: Turns) -> list[str]:
    """Run one flood against an edge of its own; return the row of the table."""
    with (
        service("match-engine", {"CLOUDMATCH_NATS_URL": url}) as worker,
        service("edge", {"CLOUDMATCH_NATS_URL": url, **turns.settings}) as edge,
    ):
        try:
            async with bystanders(edge) as pair:
                turns.restart()
                before = memory(edge, forget=True)
                with flooding(FLOODS[name], edge.url, seconds) as ended:
                    await eventually(lambda: ended, seconds + WAIT, "end of the flood")
                grown = (memory(edge) - before) / MIB
            lost = ""
        except (AssertionError, TimeoutError) as error:
            lost = f", bystanders: {error or 'no echo'}"
        released = ", edge released" if "does not answer" in worker.logs() else ""
        echo = (
            [f"{1000 * pair.percentile(share):.0f}" for share in (0.5, 0.99)] if pair.echoes else ["-", "-"]
        )
        end = ended[0].end if ended else "goes on"
        return [name, *echo, f"{1000 * turns.longest:.0f}", f"{grown:.1f}", f"{end}{lost}{released}"]


def main(
    floods: Annotated[list[str] | None, typer.Argument(help="Their names; all without any.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=10, help="Of each flood.")] = 2,
) -> None:
    """Measure floods of one client against an edge.

    Examples: `make bench WHAT=attack`, `make bench WHAT=attack ARGS='pings --seconds 5'`.
    """
    table = Table(title=f"Floods of {seconds:g} s", title_justify="left")
    for column in ("flood", "echo p50 ms", "p99 ms", "longest turn ms", "memory + MiB", "how it ended"):
        table.add_column(column, justify="left" if column in ("flood", "how it ended") else "right")
    with nats_server() as nats, tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(floods or FLOODS):
            turns = Turns(Path(folder) / f"turns-{number}")
            table.add_row(*asyncio.run(attack(name, nats.url, seconds, turns)))
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
