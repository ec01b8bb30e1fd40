"""The commands, their options and their words."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import cloudmatch
from cloudmatch.cli import doctor as examination
from cloudmatch.cli.rest import AnswerError, ask
from cloudmatch.cli.swarm import Swarm, Wish
from cloudmatch.cli.swarm import swarm as make_swarm
from cloudmatch.cli.terminal import Terminal

T = TypeVar("T")

INTERRUPTED = 130  # exit code of a program that Ctrl-C ended
TRACER = "cloudmatch-trace"

command = typer.Typer(
    name="cloudmatch",
    help="Exchange payloads with devices nearby, and look at a running CloudMatch.",
    epilog="In one terminal: [b]cloudmatch connect --id a[/]. In another: [b]cloudmatch connect --id b[/]. "
    "They are matched: what you type in one appears in the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Url = Annotated[
    str, typer.Option("--url", "-u", envvar="CLOUDMATCH_URL", help="Where the server (an edge) is.")
]
Token = Annotated[
    str | None,
    typer.Option(envvar="CLOUDMATCH_TOKEN", help="For servers that demand one (a JWT).", show_default=False),
]
Journal = Annotated[str, typer.Option(envvar="CLOUDMATCH_JOURNAL_URL", help="Where the journal is.")]
Analytics = Annotated[str, typer.Option(envvar="CLOUDMATCH_ANALYTICS_URL", help="Where analytics is.")]
EDGE_URL, JOURNAL_URL, ANALYTICS_URL = (f"http://127.0.0.1:{port}" for port in (8080, 8081, 8085))


def fail(sentence: str) -> typer.Exit:
    """Say what is wrong; raise what this gives."""
    err.print(f"[red]{escape(sentence)}[/]")
    return typer.Exit(1)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C and SIGTERM end it in order, what goes wrong is a sentence."""

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
        raise fail(f"The server does not let this device in: {error}") from None
    except cloudmatch.UnreachableError as error:
        raise fail(f"{error}. Is it running? `cloudmatch doctor` looks at every part.") from None
    except cloudmatch.CloudMatchError as error:
        raise fail(f"{error}.") from None
    except ValueError as error:
        raise fail(f"{error}.") from None


@command.command()
def connect(
    id: Annotated[str, typer.Option("--id", "-i", help="Of the device; unique in its app.")],  # noqa: A002 # its name
    url: Url = EDGE_URL,
    lat: Annotated[float, typer.Option(help="Latitude, degrees.", min=-90, max=90)] = 52.37,
    lon: Annotated[float, typer.Option(help="Longitude, degrees.", min=-180, max=180)] = 4.89,
    app: Annotated[
        str | None,
        typer.Option("--app", "-a", help="Devices of other apps are unseen.", show_default=False),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Metres within which a peer may be.", show_default=False)
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Only devices with the same tag are matched.", show_default=False)
    ] = None,
    token: Token = None,
    listen: Annotated[
        bool, typer.Option("--listen", "-l", help="Stay when the input has ended, until Ctrl-C.")
    ] = False,
) -> None:
    """Be a device: what you type goes to the peer, what it says appears.

    In a pipe every line of the input is a payload, and every payload a line of the output:

    [b]seq 1000 | cloudmatch connect --id a[/]

    [b]cloudmatch connect --id b --listen </dev/null >received[/]
    """

    async def talk() -> None:
        device = cloudmatch.connect(
            url, id=id, lat=lat, lon=lon, app=app, radius=radius, tag=tag, token=token
        )
        async with device:
            await Terminal(device, listen).run()

    run(talk())


@command.command()
def swarm(
    url: Url = EDGE_URL,
    devices: Annotated[int, typer.Option("--devices", "-n", help="How many; they pair up.", min=2)] = 20,
    rate: Annotated[float, typer.Option(help="Payloads per second and device.", min=0.01)] = 10,
    size: Annotated[int, typer.Option(help="Bytes of a payload, about 60 at least.", min=1)] = 100,
    drop: Annotated[float, typer.Option(help="Connections cut per second, at random.", min=0)] = 0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", "-s", help="How long. Without it until Ctrl-C.", min=0.1)
    ] = None,
    token: Token = None,
) -> None:
    """Let many devices talk, and check that every payload arrives once and in order.

    [b]cloudmatch swarm --devices 100 --drop 5[/] cuts five connections per second: nothing is lost.

    The exit code is 1 when anything was lost, came twice or out of order.
    """
    wish = Wish(url, devices, rate, size, drop, seconds, token)

    async def work() -> bool:
        it: Swarm = make_swarm(wish)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, it.stop)
        return await it.run(out)

    if not run(work()):
        raise fail("Payloads were lost, or came twice or out of order.")


@command.command()
def state(
    device: Annotated[str, typer.Argument(help="Id of the device.")],
    app: Annotated[str | None, typer.Option("--app", "-a", help="Its app.", show_default="default")] = None,
    journal: Journal = JOURNAL_URL,
) -> None:
    """Show what the journal knows of a device: connections, bytes and messages each way, matches."""
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


def answer(base: str, path: str, **query: object) -> Any:
    """Give what a service answers, or end with a sentence."""
    try:
        return ask(base, path, **query)
    except AnswerError as error:
        raise fail(f"{error}.") from None


def moment(at: object) -> str:
    """Write ms since 1970 as local time; anything else as it is."""
    if isinstance(at, int | float):
        return datetime.fromtimestamp(at / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(at)


@command.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def trace(context: typer.Context) -> None:
    """Show what is said on the bus; hands over to cloudmatch-trace, with all its options."""
    beside = Path(sys.executable).with_name(TRACER)
    tracer = str(beside) if beside.exists() else shutil.which(TRACER)
    if tracer is None:
        raise fail(
            f"{TRACER} is not installed here. It comes with CloudMatch's bus: install cloudmatch-bus "
            "beside this command, or run `make trace` in CloudMatch's folder."
        )
    os.execv(tracer, [tracer, *context.args])  # noqa: S606 # it takes this process' place


@command.command()
def doctor(
    url: Url = EDGE_URL,
    journal: Journal = JOURNAL_URL,
    analytics: Analytics = ANALYTICS_URL,
    match_engine: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_MATCH_ENGINE_URL", help="Where a match-engine's probes are.")
    ] = "http://127.0.0.1:8082",
    bridge: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_BRIDGE_RABBIT_URL", help="Where the bridge's probes are.")
    ] = "http://127.0.0.1:8083",
    nats: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_NATS_URL", help="NATS servers, comma-separated.")
    ] = "nats://127.0.0.1:4222",
    amqp: Annotated[
        str, typer.Option(envvar="CLOUDMATCH_AMQP_URL", help="RabbitMQ.", show_default="port 5672")
    ] = "amqp://127.0.0.1:5672",
    token: Token = None,
) -> None:
    """Look at every part of a running CloudMatch; say what is wrong and what to do.

    The exit code is 1 when something is wrong.
    """
    services = {"match-engine": match_engine, "journal": journal, "bridge-rabbit": bridge}
    places = examination.Places(url, {**services, "analytics": analytics}, nats, amqp, token)
    marks = {
        examination.State.GOOD: "[green]✓[/]",
        examination.State.DOUBTFUL: "[yellow]![/]",
        examination.State.BAD: "[red]✗[/]",
    }
    findings = run(examination.examine(places))
    table = Table("", "part", "found", show_edge=False)
    for each in findings:
        advice = f"\n[b]→ {escape(each.advice)}[/]" if each.advice else ""
        table.add_row(marks[each.state], each.part, escape(each.found) + advice)
    out.print(table)
    bad = sum(each.state is examination.State.BAD for each in findings)
    if bad:
        raise fail(f"{bad} of {len(findings)} are not well.")
    out.print("[green]All is well.[/]")
