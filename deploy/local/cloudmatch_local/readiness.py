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

from cloudmatch_local.plan import Listener, Plan, waits_for

# It asks whether a process is ready, not whether it is who it says.
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE
PATIENCE = 8.0  # s before it is said what is waited for, and between two such lines


def watch(what: Plan) -> None:
    """Print the table once everything is ready; until then say now and then what is waited for."""
    began = said = time.monotonic()
    waiting = list(what.listeners)
    while True:
        reasons = {}
        for each in list(waiting):
            if reason := _not_ready(each):
                reasons[each.process] = reason
            else:
                waiting.remove(each)
        if not waiting:
            break
        if (now := time.monotonic()) - said > PATIENCE:
            said = now
            with contextlib.suppress(OSError):  # nobody reads it
                print(f"waits for {waits_for(waiting, reasons)}", flush=True)
        time.sleep(0.2)
    with contextlib.suppress(OSError):  # the same
        print_table(what, time.monotonic() - began)


def _not_ready(listener: Listener) -> str | None:
    """Give the reason why a process is not ready, or None when it is."""
    if not listener.probe:
        with socket.socket() as probe:
            probe.settimeout(1)
            return "does not listen yet" if probe.connect_ex((listener.host, listener.port)) else None
    try:
        with urllib.request.urlopen(listener.probe, timeout=2, context=TRUSTING):  # noqa: S310 # always http(s)
            return None
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError):
            body = json.loads(error.read())
            return "; ".join(map(str, body["reasons"].values())) or f"answers {error.code}"
        return f"answers {error.code}"
    except OSError:
        return "does not listen yet"


def print_table(what: Plan, seconds: float) -> None:
    """Print what runs where."""
    table = Table(title=f"CloudMatch is ready after {seconds:.1f} s. Ctrl-C stops it.", title_justify="left")
    for column in ("process", "what", "where"):
        table.add_column(column, overflow="fold", no_wrap=False)
    previous = ""
    for row in what.rows:
        table.add_row("" if row.process == previous else row.process, row.purpose, row.url)
        previous = row.process
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110).print(table)
    sys.stdout.flush()
