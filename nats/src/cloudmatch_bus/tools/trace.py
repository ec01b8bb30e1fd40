"""Show what is said on the bus, as it is said: ``cloudmatch-trace``. It only listens."""

import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cloudmatch_bus.client.connection import Bus, Headers, connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_bus.process.settings import SettingsError, read, variable
from cloudmatch_bus.tools.trace_format import Interest, TraceLine, clock, lines, raw

PATIENCE = 3.0  # s for the server to answer
STYLES = {
    "up": "cyan",
    "dn": "green",
    "ack": "bright_black",
    "ctl": "magenta",
    "match": "yellow",
    "ev": "blue",
}


class Tracer:
    """Prints what comes. Ends when whoever reads the output has gone."""

    def __init__(self, interest: Interest, as_it_is: bool, stop: asyncio.Event) -> None:
        self._interest = interest
        self._raw = as_it_is
        self._stop = stop
        self._out = Console(highlight=False, soft_wrap=True)

    def hear(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        """Print one message."""
        if self._stop.is_set() or not self._interest.wants(subject, payload):
            return
        time = clock(datetime.now(UTC).astimezone())
        try:
            if self._raw:
                self._out.print(Text(f"{time}  {raw(subject, reply, payload)}"))
            else:
                for line in lines(subject, reply, payload):
                    self._out.print(_coloured(time, line))
        except SystemExit:  # what rich makes of a pipe that nobody reads any more
            self._stop.set()


def _coloured(time: str, line: TraceLine) -> Text:
    style = STYLES.get(line.word, "red")
    faint = "dim" if line.word == "ack" else ""
    return Text.assemble((time, "dim"), "  ", (f"{line.word:<5}", style), "  ", (line.columns(), faint))


async def _missing() -> None:
    _say("connected again: what was said meanwhile is missing here")


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


async def trace(settings: NatsSettings, interest: Interest, as_it_is: bool) -> int:
    """Trace until SIGINT or SIGTERM; give the exit code, 1 when the server does not answer."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = ", ".join(settings.servers)
    try:
        bus = await until_stopped(stop, asyncio.wait_for(connect(settings, "trace"), PATIENCE))
    except TimeoutError:
        url, port = variable(NatsSettings, "url"), variable(NatsSettings, "port")
        _say(f"NATS does not answer at {servers}: start it, or say in {url} or {port} where it is.")
        return 1
    if bus is not None:
        await _listen(bus, interest, Tracer(interest, as_it_is, stop), stop, servers)
    return 0


async def _listen(bus: Bus, interest: Interest, tracer: Tracer, stop: asyncio.Event, servers: str) -> None:
    bus.on_closed.append(stop.set)
    bus.on_reconnect.append(_missing)
    try:
        for subject in interest.subjects():
            await bus.subscribe(subject, tracer.hear)
        await until_stopped(stop, bus.client.flush())
        _say(f"listening at {servers}; Ctrl-C ends")
        await stop.wait()
    finally:
        await bus.close()


command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@command.command()
def show(
    devices: Annotated[
        list[str] | None,
        typer.Argument(metavar="DEVICE", help="Only what these devices say and hear.", show_default=False),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", "-d", help="The same as DEVICE.", show_default=False)
    ] = None,
    app: Annotated[str, typer.Option("--app", "-a", help="Only this app. [dim]All, if absent.[/]")] = "",
    facts: Annotated[
        bool, typer.Option("--facts", help="Only facts: what journal and analytics are told.")
    ] = False,
    as_it_is: Annotated[
        bool, typer.Option("--raw", help="Subject, reply address and whole payload, as they are.")
    ] = False,
) -> None:
    """Show what is said on CloudMatch's bus, as it is said.

    \b
    [bold]up[/]     a payload on its way from a device to match-engine
    [bold]dn[/]     the same, on its way from match-engine to the peer's edge
    [bold]ack[/]    the peer's edge has all payloads before this number
    [bold]match[/]  an edge asks for a partner, or takes a device out
    [bold]ctl[/]    an edge is told: paired, unpaired, replaced
    [bold]ev[/]     a fact: connected, matched, delivered, unmatched, left

    \b
    Then come app and device, the match, the payload's number in it, its
    shape (t4: a text of 4 bytes, b300: 300 bytes, binary) and what it is.

    \b
    [bold]Examples[/]
    cloudmatch-trace                    everything
    cloudmatch-trace a                  what device a says and hears
    cloudmatch-trace a c --app demo     both ends of a match in the app demo
    cloudmatch-trace --facts a          what is recorded of device a
    cloudmatch-trace --raw              as nats sub 'cm.v1.>' shows it
    cloudmatch-trace --app sys          heartbeats of edges and workers

    \b
    The bus is where CLOUDMATCH_NATS_URL or CLOUDMATCH_NATS_PORT say. A
    tracer only listens; yet to the server it is one who does, so that
    frames which no worker takes are noticed later, by the edges' timers.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    try:
        settings = read(NatsSettings, os.environ)
    except SettingsError as error:
        _say(str(error))
        raise SystemExit(2) from None
    interest = Interest(app, [*(devices or ()), *(device or ())], facts)
    raise SystemExit(asyncio.run(trace(settings, interest, as_it_is)))


def main() -> None:
    """Run the tracer."""
    command()


if __name__ == "__main__":
    main()
