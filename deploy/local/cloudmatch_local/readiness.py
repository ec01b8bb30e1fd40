"""Wait until everything is ready, then show what runs where."""

import contextlib
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request

from rich.console import Console
from rich.table import Table

from cloudmatch_local.plan import Listener, Plan, describe_waiting

# A probe asks whether a process is ready, not whether its certificate is trusted.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE

FULL = {"devices"}  # reasons of an edge that works, but accepts no more devices

CHECK_INTERVAL = 0.2  # s
REPORT_INTERVAL = 8.0  # s until a line names what is missing, and between two such lines


def wait_and_show(what: Plan) -> None:
    """Print the table once everything is ready; until then print now and then what is not."""
    started = reported = time.monotonic()
    waiting, reasons = list(what.listeners), dict[str, str]()
    while True:
        waiting, reasons = _check(waiting)
        if not waiting:
            break
        if time.monotonic() - reported > REPORT_INTERVAL:
            reported = time.monotonic()
            with contextlib.suppress(OSError):  # stdout is closed; the supervisor stops everything
                print(f"waiting for {describe_waiting(waiting, reasons)}", flush=True)
        time.sleep(CHECK_INTERVAL)
    with contextlib.suppress(OSError):  # the same
        _print_table(what, time.monotonic() - started)


def _check(listeners: list[Listener]) -> tuple[list[Listener], dict[str, str]]:
    """Return the listeners that are not ready, and the reason of each of their processes."""
    waiting, reasons = [], {}
    for each in listeners:
        if reason := _why_not_ready(each):
            waiting.append(each)
            reasons[each.process] = reason
    return waiting, reasons


def _why_not_ready(listener: Listener) -> str | None:
    if not listener.probe:
        with socket.socket() as probe:
            probe.settimeout(1)
            return "not listening yet" if probe.connect_ex((listener.host, listener.port)) else None
    try:
        with urllib.request.urlopen(listener.probe, timeout=2, context=UNVERIFIED):  # noqa: S310 # http(s)
            return None
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError):
            reasons = json.loads(error.read())["reasons"]
            if set(reasons) == FULL:
                return None
            return "; ".join(map(str, reasons.values())) or f"HTTP {error.code}"
        return f"HTTP {error.code}"
    except OSError:
        return "not listening yet"


def _print_table(what: Plan, seconds: float) -> None:
    table = Table(title=f"CloudMatch is ready after {seconds:.1f} s. Ctrl-C stops it.", title_justify="left")
    for column in ("process", "what", "where"):
        table.add_column(column, overflow="fold", no_wrap=False)
    previous = ""
    for row in what.rows:
        table.add_row("" if row.process == previous else row.process, row.purpose, row.url)
        previous = row.process
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110).print(table)
    sys.stdout.flush()
