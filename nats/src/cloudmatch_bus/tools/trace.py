"""Show messages on the bus as they are sent: ``cloudmatch-trace``. It only subscribes."""

import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cloudmatch_bus.client.connection import Bus, Headers, connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_bus.process.settings import CommonSettings, SettingsError, read, variable
from cloudmatch_bus.tools.trace_format import TraceFilter, TraceLine, clock, format_lines, format_raw

CONNECT_TIMEOUT = 3.0  # s
CREDENTIALS = "people/trace.creds"  # beside `make up`
STYLES = {
    "up": "cyan",
    "dn": "green",
    "ack": "bright_black",
    "ctl": "magenta",
    "match": "yellow",
    "ev": "blue",
}


class Tracer:
    """Prints messages; sets `stop` once its output is no longer read."""

    def __init__(self, wanted: TraceFilter, raw: bool, stop: asyncio.Event) -> None:
        self._wanted = wanted
        self._raw = raw
        self._stop = stop
        self._out = Console(highlight=False, soft_wrap=True)

    def on_message(self, pattern: str, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        """Print one message that arrived on the subject `pattern`."""
        if self._stop.is_set() or not self._wanted.matches(pattern, subject, payload):
            return
        time = clock(datetime.now(UTC).astimezone())
        try:
            if self._raw:
                self._out.print(Text(f"{time}  {format_raw(subject, reply, payload)}"))
            else:
                for line in format_lines(subject, reply, payload, self._wanted):
                    self._out.print(_coloured(time, line))
        except SystemExit:  # raised by rich on a broken pipe
            self._stop.set()


def _coloured(time: str, line: TraceLine) -> Text:
    style = STYLES.get(line.kind, "red")
    faint = "dim" if line.kind == "ack" else ""
    return Text.assemble((time, "dim"), "  ", (f"{line.kind:<5}", style), "  ", (line.columns(), faint))


async def _warn_of_gap() -> None:
    _print_error("reconnected: messages sent in the meantime are missing here")


def _print_error(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


async def trace(settings: NatsSettings, wanted: TraceFilter, raw: bool) -> int:
    """Trace until SIGINT or SIGTERM; return the exit code, 1 if the server does not answer."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = ", ".join(settings.servers)
    try:
        bus = await until_stopped(stop, asyncio.wait_for(connect(settings, "trace"), CONNECT_TIMEOUT))
    except TimeoutError:
        url, port = variable(NatsSettings, "url"), variable(NatsSettings, "port")
        _print_error(f"NATS does not answer at {servers}: start it, or set {url} or {port}.")
        return 1
    if bus is not None:
        await _print_messages(bus, wanted, Tracer(wanted, raw, stop), stop, servers)
    return 0


async def _print_messages(
    bus: Bus, wanted: TraceFilter, tracer: Tracer, stop: asyncio.Event, servers: str
) -> None:
    bus.on_closed.append(stop.set)
    bus.on_reconnect.append(_warn_of_gap)
    try:
        for subject in wanted.subjects():
            await bus.subscribe(subject, partial(tracer.on_message, subject))
        await until_stopped(stop, bus.client.flush())
        _print_error(f"listening at {servers}; Ctrl-C to stop")
        await stop.wait()
    finally:
        await bus.close()


command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@command.command()
def show(
    devices: Annotated[
        list[str] | None,
        typer.Argument(metavar="DEVICE", help="Only messages of and for these devices.", show_default=False),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", "-d", help="Same as DEVICE.", show_default=False)
    ] = None,
    app: Annotated[str, typer.Option("--app", "-a", help="Only this app. [dim]Default: all.[/]")] = "",
    facts: Annotated[
        bool, typer.Option("--facts", help="Only facts: the input of journal and analytics.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Subject, reply address and whole payload, unparsed.")
    ] = False,
) -> None:
    """Show messages on CloudMatch's bus as they are sent.

    \b
    [bold]up[/]     a payload on its way from a device to match-engine
    [bold]dn[/]     a payload on its way from match-engine to the peer's edge
    [bold]ack[/]    the peer's edge has received all payloads before this number
    [bold]match[/]  an edge requests a match, or removes a device
    [bold]ctl[/]    an update for an edge: paired, unpaired, replaced
    [bold]ev[/]     a fact: connected, matched, payloads delivered, unmatched, left

    \b
    Then follow app and device, the match, the payload's number in it, its
    shape (t4: a text of 4 bytes, b300: 300 bytes, binary) and the payload.

    \b
    [bold]Examples[/]
    cloudmatch-trace                    everything
    cloudmatch-trace a                  all messages of and for device a
    cloudmatch-trace a c --app demo     both devices of a match in app demo
    cloudmatch-trace --facts a          facts about device a
    cloudmatch-trace --raw              the output of nats sub 'cm.v1.>'
    cloudmatch-trace --app sys          heartbeats of edges and workers

    \b
    CLOUDMATCH_NATS_URL or CLOUDMATCH_NATS_PORT sets the server. A tracer only
    subscribes, but to the server it is a responder: while one runs, only
    timers tell an edge that no worker receives its payloads.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    try:
        run_dir = read(CommonSettings, os.environ).run_dir
        settings = read(NatsSettings, os.environ).beside_up(run_dir, CREDENTIALS)
        settings.check()
    except SettingsError as error:
        _print_error(str(error))
        raise SystemExit(2) from None
    wanted = TraceFilter(app, [*(devices or ()), *(device or ())], facts)
    raise SystemExit(asyncio.run(trace(settings, wanted, raw)))


def main() -> None:
    """Run the tracer."""
    command()


if __name__ == "__main__":
    main()
