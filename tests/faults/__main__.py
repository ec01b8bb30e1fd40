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
from faults.plan import Dialect, Kind, possible
from faults.run import Options, Progress, Result, run
from faults.traffic import Traffic

WIDTH = 130  # characters that the table takes
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

    def say(self, sentence: str) -> None:
        self.bar.console.print(f"[dim]{sentence}[/]")

    def at(self, faults: int, traffic: Traffic) -> None:
        self.bar.update(self._task, completed=faults, sent=traffic.sent)


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
def break_things(
    seed: Annotated[
        int | None, typer.Option(help="Of the plan and of the payloads. [dim]Default: a new one.[/]")
    ] = None,
    faults: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of devices, each on two edges.")] = 20,
    rate: Annotated[float, typer.Option(min=1, help="Payloads per second, all together.")] = 3000,
    dialect: Annotated[
        Dialect, typer.Option(help="Of the devices; classic ones do not survive the end of their edge.")
    ] = Dialect.V1,
    only: Annotated[
        list[Kind] | None, typer.Option(help="Faults of this kind only; may be given again.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Only show the plan.")] = False,
) -> None:
    """Break CloudMatch while devices talk, and count what they lose.

    Starts three NATS nodes, three edges and three match-engine workers of its own, on free ports, connects
    pairs of devices and lets them tell each other numbered payloads. Meanwhile workers, NATS nodes and, if
    the devices speak cloudmatch.v1, edges are killed, ended, frozen, cut off and started, and sockets are
    dropped, as a plan says that is drawn from the seed. At the end every payload must have been heard
    exactly once, in order and unchanged, every device must be in the same match, and the facts must account
    for every byte, except for those that a killed edge had not told.

    Ctrl-C ends early, with the table so far. Exit status: 0 when the promise was kept, else 1.

    [bold]Examples[/]

    python -m faults                                     a hundred faults, a few minutes\n
    python -m faults --faults 10 --pairs 5 --rate 500    a quick look\n
    python -m faults --seed 7 --show                     what would happen with this seed\n
    python -m faults --only "worker killed" --only "a subscriber to everything"
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    options = Options(seed, faults, pairs, rate, tuple(only or ()), dialect)
    if unbearable := [kind.value for kind in options.kinds if kind not in possible(dialect)]:
        raise typer.BadParameter(f"devices of this dialect do not survive: {', '.join(unbearable)}")
    if show:
        for step in options.plan:
            console.print(f"after {step.gap:.2f} s: {' + '.join(map(str, step.faults))}")
        return
    console.print(f"seed {seed}")
    result = uvloop.run(_run(options))
    out = Console(highlight=False, soft_wrap=True, width=max(WIDTH, console.width))
    out.print(report.markdown(result) if markdown else report.table(result))
    out.print(report.summary(result))
    if not result.kept:
        for complaint in result.complaints:
            console.print(complaint, style="red", markup=False)
        again = "".join(f' --only "{kind.value}"' for kind in only or ())
        console.print(
            f"The promise was broken. The same again: make test-faults SEED={seed} FAULTS={faults} "
            f"PAIRS={pairs} RATE={rate:g} DIALECT={dialect}{again}"
        )
        sys.exit(1)


if __name__ == "__main__":
    command()
