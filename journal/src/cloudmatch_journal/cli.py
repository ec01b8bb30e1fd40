"""What a person asks of the journal's folder, while the service runs or not: ``export`` and ``verify``."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import Environment, setup
from cloudmatch_journal import files
from cloudmatch_journal.core.audit import Finding
from cloudmatch_journal.core.ledger import Kind
from cloudmatch_journal.core.selection import Moment, Selection, moment
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.settings import JournalSettings, folder
from cloudmatch_journal.verification import Verification

PATIENCE = 3.0  # s for NATS to answer
SHOWN = 100  # faults in a list, at most

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
console = Console(stderr=True, highlight=False, soft_wrap=True)


def _progress(*, hidden: bool = False) -> Progress:
    """A bar on the terminal; nothing where there is none."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )


def _moment(text: str | None) -> Moment | None:
    try:
        return None if text is None else moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _folder(environment: Environment) -> Path:
    """Give the journal's folder; end the command where there is none."""
    found = folder(environment)
    if not found.is_dir() or not files.firsts(found):
        console.print(f"{found} holds no journal: CLOUDMATCH_JOURNAL_FOLDER or CLOUDMATCH_RUN_DIR say where")
        raise typer.Exit(2)
    return found


def _wanted(found: Path, selection: Selection, progress: Progress) -> Iterator[bytes]:
    """Give the lines of the wanted events.

    Raises:
        StoreError: a segment is damaged.
    """
    firsts = files.firsts(found)
    task = progress.add_task("export", total=len(firsts), said="")
    count = 0
    for first in firsts:
        try:
            seal = files.seal(found, first)
            if seal is None or selection.reaches(seal):
                for document, line in zip(*files.whole(found, first, seal), strict=True):
                    if selection.wants(document):
                        count += 1
                        yield line
        except FileNotFoundError:
            console.print(f"{files.segment(found, first).name} was let go meanwhile")
        progress.update(task, advance=1, said=f"{count:,} events")


@contextlib.contextmanager
def _output(file: Path | None) -> Iterator[BinaryIO]:
    """Open what to write to; a file is there only once it is whole."""
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@command.command()
def export(
    after: Annotated[
        str | None, typer.Option(metavar="POSITION|TIME", help="Only events behind this.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="POSITION|TIME", help="Only events up to this one.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--type", help="Only events of this type.")] = None,
    app: Annotated[str | None, typer.Option(help="Only events of this app.")] = None,
    device: Annotated[str | None, typer.Option(help="Only events that name this device.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. [dim]Default: standard output.[/]")
    ] = None,
) -> None:
    """Write events as JSON Lines, oldest first: one object a line, the fact and its `position`.

    Works while the service runs; gives what was on disk when the command came by.

    Exit status: 0; 1 when a segment is damaged; 2 when there is no journal.

    \b
    [bold]Examples[/]
    journal export > events.jsonl
    journal export --after 2026-11-24T10:00 --type delivered -o delivered.jsonl
    journal export --app demo --device a | jq .type
    """
    selection = Selection(_moment(after), _moment(until), kind, app, device)
    found, count = _folder(setup(JournalSettings, NatsSettings, stream=sys.stderr)), 0
    try:
        with _progress(hidden=output is None and sys.stdout.isatty()) as progress, _output(output) as out:
            for line in _wanted(found, selection, progress):
                out.write(line)
                count += 1
    except StoreError as error:
        console.print(str(error))
        raise typer.Exit(1) from None
    if output is not None or not sys.stdout.isatty():
        console.print(f"{count:,} events")


@command.command()
def verify(
    offline: Annotated[
        bool, typer.Option("--offline", help="Only the segments among themselves, without the bus.")
    ] = False,
) -> None:
    """Hold the journal against the stream that it was made from.

    Names each event that is missing, there twice, out of order, different,
    or not in the stream, and each segment that is damaged.
    Events that have left the stream are held against one another only.

    Works while the service runs: what it has not written yet is not missing.

    Exit status: 0 when all is well, 1 when something was found, 2 when it cannot be told.
    """
    environment = setup(JournalSettings, NatsSettings, stream=sys.stderr)
    verification = Verification(_folder(environment))
    try:
        with _progress() as progress:
            faults = verification.order(progress)
            if not offline:
                faults += asyncio.run(_against_stream(verification, environment[NatsSettings], progress))
    except (TimeoutError, OSError) as error:
        console.print(f"cannot verify: {str(error) or 'NATS does not answer'}")
        raise typer.Exit(2) from None
    _report(faults)
    console.print(verification.summary(offline=offline))
    raise typer.Exit(1 if faults else 0)


async def _against_stream(
    verification: Verification, settings: NatsSettings, progress: Progress
) -> list[Finding]:
    bus = await asyncio.wait_for(connect(settings, "journal-verify"), PATIENCE)
    try:
        return await verification.against_stream(bus, progress)
    finally:
        await bus.close()


def _report(faults: Iterable[Finding]) -> None:
    counts: Counter[str] = Counter()
    for number, fault in enumerate(faults, 1):
        counts[fault.fault] += 1
        if number <= SHOWN:
            sys.stdout.write(f"{fault}\n")
    if counts.total() > SHOWN:
        sys.stdout.write(f"… and {counts.total() - SHOWN:,} more\n")
    sys.stdout.flush()
    if counts:
        console.print(", ".join(f"{count:,} {fault}" for fault, count in counts.items()))
