"""The commands ``export`` and ``verify``: they read the journal's folder, even while the service runs."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract.messages import encode
from cloudmatch_bus.process.runner import Environment, setup
from cloudmatch_bus.process.settings import CommonSettings
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.audit import Finding
from cloudmatch_journal.core.ledger import Kind
from cloudmatch_journal.core.segments import Document
from cloudmatch_journal.core.selection import Moment, Selection, parse_moment
from cloudmatch_journal.core.shown import shown
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.settings import JournalSettings, folder
from cloudmatch_journal.verification import Verification

CREDENTIALS = "journal.1.creds"  # beside `make up`
NATS_TIMEOUT = 3.0  # s to connect
LISTED = 100  # faults, at most

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
console = Console(stderr=True, highlight=False, soft_wrap=True)


def _progress(*, hidden: bool = False) -> Progress:
    """Create a progress bar; it is hidden where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )


def _moment(text: str | None) -> Moment | None:
    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _folder(environment: Environment) -> Path:
    """Return the journal's folder; exit with an error message if there is no journal in it."""
    found = folder(environment)
    if not found.is_dir() or not files.first_positions(found):
        console.print(f"no journal in {found}: set CLOUDMATCH_JOURNAL_FOLDER or CLOUDMATCH_RUN_DIR")
        raise typer.Exit(2)
    return found


def _selected_lines(journal: Path, selection: Selection, progress: Progress) -> Iterator[bytes]:
    """Yield the lines of the selected events.

    Raises:
        StoreError: a segment is damaged.
    """
    firsts = files.first_positions(journal)
    task = progress.add_task("export", total=len(firsts), detail="")
    count = 0
    for first in firsts:
        try:
            seal = files.read_seal(journal, first)
            if seal is None or selection.may_include(seal):
                contents = files.read_undamaged(journal, first, seal)
                for document, line in zip(contents.documents, contents.lines, strict=True):
                    if selection.includes(document):
                        for event in _events(document, line.data, selection.device):
                            count += 1
                            yield event
        except FileNotFoundError:
            console.print(f"{files.segment_path(journal, first).name} was dropped meanwhile")
        progress.update(task, advance=1, detail=f"{count:,} events")


def _events(document: Document, line: bytes, device: str | None) -> Iterator[bytes]:
    """Yield the lines of the events as which a document is shown."""
    if document["type"] not in segments.BATCHES:
        yield segments.plain(line) + b"\n"
        return
    for fact in shown(segments.to_fact(document), device):
        yield encode({"position": document["position"], **msgspec.to_builtins(fact)}) + b"\n"


@contextlib.contextmanager
def _output(file: Path | None) -> Iterator[BinaryIO]:
    """Open the output; a file appears only once it is complete."""
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
        str | None, typer.Option(metavar="POSITION|TIME", help="Only events after this.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="POSITION|TIME", help="Only events up to and including this.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--type", help="Only events of this type.")] = None,
    app: Annotated[str | None, typer.Option(help="Only events of this app.")] = None,
    device: Annotated[str | None, typer.Option(help="Only events that name this device.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file. [dim]Default: standard output.[/]")
    ] = None,
) -> None:
    """Write events as JSON Lines, oldest first: each line is a fact with its `position`.

    Events that came in one batch have one position.

    Works while the service runs, on the events that are on disk at that time.

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
            for line in _selected_lines(found, selection, progress):
                out.write(line)
                count += 1
    except (StoreError, OSError) as error:
        console.print(str(error))
        raise typer.Exit(1) from None
    if output is not None or not sys.stdout.isatty():
        console.print(f"{count:,} events")


@command.command()
def verify(
    offline: Annotated[
        bool, typer.Option("--offline", help="Check the segments only, without the bus.")
    ] = False,
) -> None:
    """Compare the journal with the stream that it was made from.

    Lists each event that is missing, duplicate, out of order, different,
    or not in the stream, and each damaged part of a segment, seal or snapshot.
    Events that the stream no longer has are checked by what the files say of one another.

    Works while the service runs: events that it has not written yet do not count as missing.

    Exit status: 0 when there are no faults, 1 when there are, 2 when the journal cannot be verified.
    """
    environment = setup(JournalSettings, NatsSettings, stream=sys.stderr)
    verification = Verification(_folder(environment))
    try:
        with _progress() as progress:
            faults = verification.check_files(progress)
            if not offline:
                settings = environment[NatsSettings].beside_up(
                    environment[CommonSettings].run_dir, CREDENTIALS
                )
                faults += asyncio.run(_compare_with_stream(verification, settings, progress))
            faults = list(dict.fromkeys(faults))
    except (TimeoutError, OSError) as error:
        console.print(f"cannot verify: {str(error) or 'NATS does not answer'}")
        raise typer.Exit(2) from None
    _report(faults)
    console.print(verification.summary(offline=offline))
    raise typer.Exit(1 if faults else 0)


async def _compare_with_stream(
    verification: Verification, settings: NatsSettings, progress: Progress
) -> list[Finding]:
    bus = await asyncio.wait_for(connect(settings, "journal"), NATS_TIMEOUT)
    try:
        return await verification.compare_with_stream(bus, progress)
    finally:
        await bus.close()


def _report(faults: Iterable[Finding]) -> None:
    counts: Counter[str] = Counter()
    for number, fault in enumerate(faults, 1):
        counts[fault.fault] += 1
        if number <= LISTED:
            sys.stdout.write(f"{fault}\n")
    if counts.total() > LISTED:
        sys.stdout.write(f"… and {counts.total() - LISTED:,} more\n")
    sys.stdout.flush()
    if counts:
        console.print(", ".join(f"{count:,} {fault}" for fault, count in counts.items()))
