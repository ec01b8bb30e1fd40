"""What a person does about sizes that were rejected: ``dead-letters`` and ``replay``."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cloudmatch_bridge_rabbit.core.dead_letter import Letter
from cloudmatch_bridge_rabbit.publisher import DeadLetters, DeadLettersError, dead_letters
from cloudmatch_bus.process.runner import setup
from cloudmatch_bus.process.settings import AmqpSettings

T = TypeVar("T")
WIDTH = 100  # of a table where there is no terminal

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
console = Console(stderr=True, highlight=False, soft_wrap=True)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; end the command with a sentence where RabbitMQ fails."""
    try:
        return asyncio.run(work)
    except DeadLettersError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None


def _table(letters: list[Letter]) -> Table:
    """Draw dead letters, the oldest first."""
    made = Table("id", "body", "from → to", "why", "died (UTC)", "times")
    for column in made.columns:
        column.overflow = "fold"
        column.no_wrap = column.header in ("id", "why", "died (UTC)")
    for each in letters:
        who = f"{each.sender} → {each.receiver}" if each.sender else each.routing_key
        died = f"{each.died_at:%Y-%m-%d %H:%M:%S}" if each.died_at else ""
        said = (each.message_id, each.body, who, each.reason, died, str(each.deaths))
        made.add_row(*map(Text, said))
    return made


async def _show(letters: DeadLetters, limit: int) -> int:
    """Print the oldest dead letters; give how many there are in all."""
    count = await letters.count()
    if count:
        shown = await letters.look(min(limit, count))
        out = Console(highlight=False)
        out.width = out.width if out.is_terminal else max(WIDTH, out.width)
        out.print(_table(shown))
    return count


@command.command(name="dead-letters")
def list_dead(
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the oldest, at most.")] = 20,
) -> None:
    """List the sizes that a reader of RabbitMQ rejected. They stay where they are.

    They lie in the queue `cloudmatch.bytes.dead`, as they were published.
    """
    settings = setup(AmqpSettings, stream=sys.stderr)[AmqpSettings]

    async def show() -> int:
        async with dead_letters(settings) as letters:
            return await _show(letters, limit)

    count = _run(show())
    more = f", the oldest {limit:,} are shown" if count > limit else ""
    console.print(f"{count:,} dead letters{more}" if count else "no dead letters")


@command.command()
def replay(
    limit: Annotated[
        int | None, typer.Option(min=1, help="Move so many, the oldest, at most. [dim]Default: all.[/]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be moved.")] = False,
) -> None:
    """Move rejected sizes back to the exchange `cloudmatch.bytes`, as they were.

    Each is published with a confirm and then taken away, so none is lost.
    One that is rejected again comes back, and is not moved twice by one command.

    After a failure one may be in both places, under the same message id.

    Exit status: 0; 1 when RabbitMQ failed, the rest then lies where it lay.
    """
    settings = setup(AmqpSettings, stream=sys.stderr)[AmqpSettings]

    async def show() -> int:
        async with dead_letters(settings) as letters:
            return min(await _show(letters, limit or 20), limit or sys.maxsize)

    async def move() -> int:
        async with dead_letters(settings) as letters:
            count = min(await letters.count(), limit or sys.maxsize)
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
                return await letters.replay(count, lambda: bar.advance(task))

    if dry_run:
        console.print(f"would move {_run(show()):,} dead letters")
    else:
        console.print(f"moved {_run(move()):,} dead letters")
