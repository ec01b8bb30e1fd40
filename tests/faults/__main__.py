"""The command: ``python -m faults``."""

import asyncio
import secrets
import signal
import sys
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from faults import report
from faults.nemesis import Dialect, Kind, survivable
from faults.run import Options, Progress, Result, run
from faults.workload import Workload

WIDTH = 130  # characters, of the table
console = Console(stderr=True, highlight=False)


class Terminal(Progress):
    """A progress bar, and a line for every fault."""

    def __init__(self, faults: int) -> None:
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[sent]:,} payloads"),
            console=console,
        )
        self._task = self.bar.add_task("faults", total=faults, sent=0)

    def log(self, line: str) -> None:
        self.bar.console.print(f"[dim]{line}[/]")

    def on_step(self, faults: int, workload: Workload) -> None:
        self.bar.update(self._task, completed=faults, sent=workload.sent)


async def _run(options: Options) -> Result:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    progress = Terminal(options.faults)
    with progress.bar:
        return await run(options, stop, progress)


command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@command.command()
def main(
    seed: Annotated[
        int | None, typer.Option(help="Seed of faults and payloads. [dim]Default: a random one.[/]")
    ] = None,
    faults: Annotated[int, typer.Option(min=1, help="Faults to inject.")] = 100,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of devices, each on two edges.")] = 20,
    rate: Annotated[float, typer.Option(min=1, help="Payloads per second, in total.")] = 3000,
    dialect: Annotated[
        Dialect,
        typer.Option(help="Dialect of the devices; classic ones do not survive the end of their edge."),
    ] = Dialect.V1,
    only: Annotated[
        list[Kind] | None, typer.Option(help="Only faults of this kind; may be repeated.")
    ] = None,
    counting: Annotated[
        bool,
        typer.Option("--counting", help="Run journal, bridge, RabbitMQ and analytics, too; compare sums."),
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Only show the schedule.")] = False,
) -> None:
    """Inject faults while devices exchange payloads, and count violations of the delivery guarantee.

    Starts three NATS nodes, three edges and three match-engine workers of its own, on free ports, and pairs
    of devices that send each other numbered payloads. Meanwhile workers, NATS nodes and, with cloudmatch.v1
    devices, edges are killed, stopped, frozen, cut off and started, and sockets are dropped, by a schedule
    drawn from the seed. At the end every payload must have been received exactly once, in order and
    unchanged, every device must be in the same match, and the facts must account for every byte, except for
    facts that a killed edge had not published.

    Ctrl-C ends early, with the table so far. Exit status: 0 if the guarantee held, else 1.

    [bold]Examples[/]

    python -m faults                                     a hundred faults, a few minutes\n
    python -m faults --faults 10 --pairs 5 --rate 500    a quick look\n
    python -m faults --seed 7 --show                     the schedule of this seed\n
    python -m faults --only "worker killed" --only "a subscriber to everything"
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    options = Options(seed, faults, pairs, rate, tuple(only or ()), dialect, counting)
    if fatal := [kind.value for kind in options.kinds if kind not in survivable(dialect)]:
        raise typer.BadParameter(f"devices of this dialect do not survive: {', '.join(fatal)}")
    if show:
        for step in options.steps:
            console.print(f"after {step.gap:.2f} s: {' + '.join(map(str, step.faults))}")
        return
    console.print(f"seed {seed}")
    result = uvloop.run(_run(options))
    out = Console(highlight=False, soft_wrap=True, width=max(WIDTH, console.width))
    out.print(report.markdown(result) if markdown else report.table(result))
    out.print(report.summary(result))
    if not result.valid:
        for problem in result.problems:
            console.print(problem, style="red", markup=False)
        console.print(
            f"The delivery guarantee was violated. To repeat: make test-faults SEED={seed} FAULTS={faults} "
            f"PAIRS={pairs} RATE={rate:g} DIALECT={dialect}{_arguments(only, counting)}"
        )
        sys.exit(1)


def _arguments(only: list[Kind] | None, counting: bool) -> str:
    """Return what `make` passes on."""
    given = [f'--only "{kind.value}"' for kind in only or ()] + ["--counting"] * counting
    return f" ARGS='{' '.join(given)}'" if given else ""


if __name__ == "__main__":
    command()
