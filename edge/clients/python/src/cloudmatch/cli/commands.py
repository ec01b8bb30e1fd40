"""The commands and their options."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import cloudmatch
from cloudmatch.cli.cluster import ask_cluster, render
from cloudmatch.cli.doctor import Endpoints, State, examine
from cloudmatch.cli.rest import AnswerError, ask
from cloudmatch.cli.swarm import Swarm, SwarmOptions
from cloudmatch.cli.terminal import Terminal
from cloudmatch.cli.words import moment

T = TypeVar("T")

INTERRUPTED = 130  # exit code of a program that Ctrl-C ended
TRACER = "cloudmatch-trace"
WATCH_INTERVAL = 1.0  # s

command = typer.Typer(
    name="cloudmatch",
    help="Exchange payloads with nearby devices, and inspect a running CloudMatch.",
    epilog="Run [b]cloudmatch connect --id a[/] in one terminal, [b]cloudmatch connect --id b[/] in another: "
    "they match, and what you type in one appears in the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Url = Annotated[
    str,
    typer.Option(
        "--url",
        "-u",
        envvar="CLOUDMATCH_URL",
        help="URL of the server (an edge), or of several, comma-separated.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(envvar="CLOUDMATCH_TOKEN", help="A JWT, for servers that require one.", show_default=False),
]
Journal = Annotated[str, typer.Option(envvar="CLOUDMATCH_JOURNAL_URL", help="URL of the journal.")]
Analytics = Annotated[str, typer.Option(envvar="CLOUDMATCH_ANALYTICS_URL", help="URL of analytics.")]
MatchEngine = Annotated[
    str, typer.Option(envvar="CLOUDMATCH_MATCH_ENGINE_URL", help="URL of a match-engine worker.")
]
EDGE_URL, JOURNAL_URL, MATCH_ENGINE_URL, ANALYTICS_URL = (
    f"http://127.0.0.1:{port}" for port in (8080, 8081, 8082, 8085)
)


def edges(url: str) -> list[str]:
    """Return the URLs of the option ``--url``."""
    return [each.strip() for each in url.split(",")]


def fail(sentence: str) -> typer.Exit:
    """Print an error; return the exception to raise."""
    err.print(f"[red]{escape(sentence)}[/]")
    return typer.Exit(1)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to completion; stop cleanly on Ctrl-C and SIGTERM, and print errors as sentences."""

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED) from None
    except cloudmatch.RefusedError as error:
        raise fail(f"The server refused this device: {error}") from None
    except cloudmatch.UnreachableError as error:
        if isinstance(error.__cause__, cloudmatch.RefusedError):
            raise fail(f"{error}.") from None
        raise fail(f"{error}. Is it running? `cloudmatch doctor` checks every part.") from None
    except cloudmatch.CloudMatchError as error:
        raise fail(f"{error}.") from None
    except ValueError as error:
        raise fail(f"{error}.") from None


@command.command()
def connect(
    id: Annotated[str, typer.Option("--id", "-i", help="Id of the device, unique in its app.")],  # noqa: A002 # its name
    url: Url = EDGE_URL,
    lat: Annotated[float, typer.Option(help="Latitude in degrees.", min=-90, max=90)] = 52.37,
    lon: Annotated[float, typer.Option(help="Longitude in degrees.", min=-180, max=180)] = 4.89,
    app: Annotated[
        str | None,
        typer.Option("--app", "-a", help="Devices match only within their app.", show_default=False),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Metres within which a peer may be.", show_default=False)
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Only devices with equal tags match.", show_default=False)
    ] = None,
    token: Token = None,
    listen: Annotated[
        bool, typer.Option("--listen", "-l", help="Stay connected after the input ends, until Ctrl-C.")
    ] = False,
) -> None:
    """Connect as a device: what you type is sent to the peer, what it sends is shown.

    In a pipe, each line of input is a payload, and each payload received a line of output:

    [b]seq 1000 | cloudmatch connect --id a[/]

    [b]cloudmatch connect --id b --listen </dev/null >received[/]
    """

    async def exchange() -> None:
        device = cloudmatch.connect(
            edges(url), id=id, lat=lat, lon=lon, app=app, radius=radius, tag=tag, token=token
        )
        terminal = Terminal(device, listen)
        async with device:
            await terminal.run()

    run(exchange())


@command.command()
def swarm(
    url: Url = EDGE_URL,
    devices: Annotated[
        int, typer.Option("--devices", "-n", help="How many devices; they match in pairs.", min=2)
    ] = 20,
    rate: Annotated[float, typer.Option(help="Payloads per second from each device.", min=0.01)] = 10,
    size: Annotated[int, typer.Option(help="Bytes per payload; at least about 60.", min=1)] = 100,
    drop: Annotated[float, typer.Option(help="Connections to drop per second, at random.", min=0)] = 0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", "-s", help="How long to run. Default: until Ctrl-C.", min=0.1)
    ] = None,
    token: Token = None,
) -> None:
    """Let many devices exchange payloads, and check that each arrives once and in order.

    [b]cloudmatch swarm --devices 100 --drop 5[/] drops five connections per second: nothing is lost.

    The exit code is 1 if any payload was lost, duplicated or out of order.
    """
    options = SwarmOptions(edges(url), devices, rate, size, drop, seconds, token)

    async def work() -> bool:
        running = Swarm(options)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, running.stop)
        return await running.run(out)

    if not run(work()):
        raise fail("Payloads were lost, duplicated or out of order.")


@command.command()
def state(
    device: Annotated[str, typer.Argument(help="Id of the device.")],
    app: Annotated[str | None, typer.Option("--app", "-a", help="Its app.", show_default="default")] = None,
    journal: Journal = JOURNAL_URL,
) -> None:
    """Show a device's state in the journal: connections, bytes and messages each way, matches."""
    known = answer(journal, f"/device/state/{quote(device, safe='')}", app=app)
    table = Table(show_header=False)
    for name, value in known.items():
        table.add_row(name, moment(value) if name == "lastSeen" else escape(str(value)))
    out.print(table)


@command.command()
def windows(
    size: Annotated[str, typer.Option(help="10s or 60s.")] = "10s",
    app: Annotated[str | None, typer.Option("--app", "-a", help="Only this app.", show_default=False)] = None,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Only this device.", show_default=False)
    ] = None,
    last: Annotated[int, typer.Option(help="How many windows.", min=1)] = 12,
    analytics: Analytics = ANALYTICS_URL,
) -> None:
    """Show how many bytes and payloads were exchanged, window by window."""
    closed = answer(analytics, "/windows", size=size, app=app, device=device, last=last)
    most = max((window["bytes"] for window in closed), default=0)
    table = Table("from", "to", "payloads", "bytes", "")
    for column in table.columns[2:4]:
        column.justify = "right"
    for window in closed:
        bar = "█" * round(30 * window["bytes"] / most) if most else ""
        times = [moment(window["start"]), moment(window["end"])]
        table.add_row(*times, f"{window['messages']:,}", f"{window['bytes']:,}", bar)
    out.print(table)


@command.command()
def cluster(
    id: Annotated[  # noqa: A002 # its name
        str | None, typer.Option("--id", "-i", help="Also say where this device is.", show_default=False)
    ] = None,
    app: Annotated[str | None, typer.Option("--app", "-a", help="Its app.", show_default="default")] = None,
    match_engine: MatchEngine = MATCH_ENGINE_URL,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second, until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch, an object a line.")
    ] = False,
) -> None:
    """Show all edges and workers: state, load, devices; what is wrong; which edge holds a device."""

    async def refresh() -> None:
        # An error is shown until a worker answers: one that restarts does not end the display.
        last: RenderableType = ""
        with Live(console=out, auto_refresh=False) as live:
            while True:
                try:
                    status = await asyncio.to_thread(ask_cluster, match_engine, app, id)
                    if as_json:
                        typer.echo(json.dumps(status))
                    else:
                        last = render(status)
                        live.update(last, refresh=True)
                except AnswerError as error:
                    sentence = f"[red]{escape(str(error))}.[/]"
                    if as_json:
                        err.print(sentence)
                    else:
                        live.update(Group(last, sentence), refresh=True)
                await asyncio.sleep(WATCH_INTERVAL)

    if watch:
        run(refresh())
    try:
        status = ask_cluster(match_engine, app, id)
    except AnswerError as error:
        raise fail(f"{error}.") from None
    if as_json:
        typer.echo(json.dumps(status, indent=2))
    else:
        out.print(render(status))


def answer(base: str, path: str, **query: object) -> Any:
    """Return the answer of a service, or exit with an error."""
    try:
        return ask(base, path, **query)
    except AnswerError as error:
        raise fail(f"{error}.") from None


@command.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def trace(context: typer.Context) -> None:
    """Show the traffic on the bus. Runs cloudmatch-trace, with all its options."""
    beside = Path(sys.executable).with_name(TRACER)
    tracer = str(beside) if beside.exists() else shutil.which(TRACER)
    if tracer is None:
        raise fail(
            f"{TRACER} is not installed. It comes with cloudmatch-bus: install that package "
            "alongside this command, or run `make trace` in CloudMatch's folder."
        )
    os.execv(tracer, [tracer, *context.args])  # noqa: S606 # replaces this process


@command.command()
def doctor(
    url: Url = EDGE_URL,
    journal: Journal = JOURNAL_URL,
    analytics: Analytics = ANALYTICS_URL,
    match_engine: MatchEngine = MATCH_ENGINE_URL,
    bridge: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_BRIDGE_RABBIT_URL", help="URL of the bridge's probes.")
    ] = "http://127.0.0.1:8083",
    nats: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_NATS_URL", help="NATS servers, comma-separated.")
    ] = "nats://127.0.0.1:4222",
    amqp: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_AMQP_URL", help="RabbitMQ.", show_default="port 5672")
    ] = "amqp://127.0.0.1:5672",
    token: Token = None,
) -> None:
    """Check every part of a running CloudMatch: what is wrong, and what to do about it.

    The exit code is 1 if something is wrong.
    """
    services = {"match-engine": match_engine, "journal": journal, "bridge-rabbit": bridge}
    endpoints = Endpoints(edges(url), {**services, "analytics": analytics}, nats, amqp, token)
    marks = {
        State.GOOD: "[green]✓[/]",
        State.WARNING: "[yellow]![/]",
        State.BAD: "[red]✗[/]",
    }
    findings = run(examine(endpoints))
    table = Table("", "part", "found", show_edge=False)
    for each in findings:
        advice = f"\n[b]→ {escape(each.advice)}[/]" if each.advice else ""
        table.add_row(marks[each.state], each.part, escape(each.found) + advice)
    out.print(table)
    bad = sum(each.state is State.BAD for each in findings)
    if bad:
        raise fail(f"{bad} of {len(findings)} checks failed.")
    out.print("[green]All checks passed.[/]")
