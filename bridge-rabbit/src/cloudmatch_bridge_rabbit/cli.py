"""The commands ``dead-letters`` and ``replay``: inspect and requeue rejected messages."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cloudmatch_bridge_rabbit.core.dead_letter import DeadLetter
from cloudmatch_bridge_rabbit.dead_letter_queue import DeadLetterError, DeadLetters, dead_letters
from cloudmatch_bus.process.runner import setup
from cloudmatch_bus.process.settings import AmqpSettings

T = TypeVar("T")
WIDTH = 100  # of a table where there is no terminal
LISTED = 20  # dead letters in a table, by default

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
console = Console(stderr=True, highlight=False, soft_wrap=True)


@command.command(name="dead-letters")
def list_dead_letters(
    limit: Annotated[int, typer.Option(min=1, help="List at most this many, oldest first.")] = LISTED,
) -> None:
    """List what a consumer rejected, batches and single sizes, and facts that could not be published.

    All is kept as it was, in the queues `cloudmatch.sizes.dead`, `cloudmatch.bytes.dead` and
    `cloudmatch.facts.dead`.
    """
    settings = setup(AmqpSettings, stream=sys.stderr)[AmqpSettings]
    count = _run(_show(settings, limit))
    more = f", showing the oldest {limit:,}" if count > limit else ""
    console.print(f"{count:,} dead letters{more}" if count else "no dead letters")


@command.command()
def replay(
    limit: Annotated[
        int | None, typer.Option(min=1, help="Move at most this many, oldest first. [dim]Default: all.[/]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be moved.")] = False,
) -> None:
    """Move rejected batches back to the exchange `cloudmatch.sizes`, sizes to `cloudmatch.bytes.analytics`.

    Each is published as it was, a fact that was set aside as what it becomes, if that is possible now; with a
    confirm, and then removed, so none is lost.
    One that is rejected again returns to the dead letters; one command does not move it twice.

    After a failure one may be in both queues, under the same message id.

    Exit status: 0; 1 when RabbitMQ failed, the rest is then still in the dead-letter queue.
    """
    settings = setup(AmqpSettings, stream=sys.stderr)[AmqpSettings]
    most = limit or sys.maxsize
    if dry_run:
        count = _run(_show(settings, limit or LISTED))
        console.print(f"would move {min(count, most):,} dead letters")
    else:
        console.print(f"moved {_run(_move(settings, most)):,} dead letters")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to completion; exit with an error message if RabbitMQ fails."""
    try:
        return asyncio.run(work)
    except DeadLetterError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None


async def _show(settings: AmqpSettings, limit: int) -> int:
    """Print the oldest dead letters; return how many there are in total."""
    async with dead_letters(settings) as queue:
        count = await queue.count()
        if count:
            letters = await queue.peek(min(limit, count))
            out = Console(highlight=False)
            out.width = out.width if out.is_terminal else max(WIDTH, out.width)
            out.print(_table(letters))
    return count


async def _move(settings: AmqpSettings, limit: int) -> int:
    """Replay dead letters under a progress bar; return how many."""
    async with dead_letters(settings) as queue:
        return await _replay(queue, min(await queue.count(), limit))


async def _replay(queue: DeadLetters, count: int) -> int:
    bar = Progress(
        TextColumn("replay"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("replay", total=count)
        return await queue.replay(count, lambda: bar.advance(task))


def _table(letters: list[DeadLetter]) -> Table:
    table = Table("id", "body", "from → to", "reason", "died (UTC)", "deaths")
    for column in table.columns:
        column.overflow = "fold"
        column.no_wrap = column.header == "died (UTC)"
    for each in letters:
        ends = f"{each.sender} → {each.receiver}" if each.sender else each.routing_key
        died = f"{each.died_at:%Y-%m-%d %H:%M:%S}" if each.died_at else ""
        row = (each.message_id, each.body, ends, each.reason, died, str(each.deaths))
        table.add_row(*map(Text, row))
    return table
