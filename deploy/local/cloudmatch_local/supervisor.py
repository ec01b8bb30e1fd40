"""Run processes side by side, each started again if it ends, and stop all of them together, services before
servers. On top of honcho.
"""

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message, Printer

from cloudmatch_local.kept_process import KeptProcess

DRAIN = 3.0  # s for services to end before their servers do
REPEAT = 0.5  # s between two SIGTERMs: a process that is just starting misses one
POLL = 0.02  # s


class LogPrinter(Printer):  # type: ignore[misc]  # honcho is untyped
    """Print the processes' logs, prefixed with their names; of honcho's own messages only what matters."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self._stop_requested = False
        # "edge.1 (exit 2)": the process that ended for good before anything was asked to
        self.first_exit = ""

    def write(self, message: Message) -> None:
        """Print a line of a process; interpret a line of honcho's."""
        if message.name != SYSTEM_PRINTER_NAME:
            self._print(message)
            return
        text = str(message.data).strip()
        if text.endswith("received"):  # SIGINT, SIGTERM
            self._stop_requested = True
            self._print(message._replace(data="stopping"))
        elif " stopped (rc=" in text and not self._stop_requested and not self.first_exit:
            self.first_exit = text.replace(" stopped (rc=", " (exit ")

    def _print(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # stdout is closed: `stop_when_unread` stops everything
            super().write(message)


class Supervisor(Manager):  # type: ignore[misc]  # honcho is untyped
    """Start all processes, and each again that ends; when a signal arrives, or one has ended for good, end
    services first, then the servers they use.

    Args:
        printer: prints what the processes log.
        services: names, as in the Procfile, of the processes that end first.
        on_started: called once all processes have been started.
        blocked, last_words: as of `KeptProcess`.
    """

    def __init__(
        self,
        printer: LogPrinter,
        services: Iterable[str],
        on_started: Callable[[], None] = lambda: None,
        blocked: Callable[[str], str | None] = lambda _: None,
        last_words: Callable[[str], Iterable[str]] = lambda _: (),
    ) -> None:
        super().__init__(printer)
        self._services = frozenset(services)
        self._on_started = on_started
        self._stopping = multiprocessing.Event()
        self._process_ctor = partial(
            KeptProcess, stopping=self._stopping, blocked=blocked, last_words=last_words
        )
        self._terminator: threading.Thread | None = None

    def terminate(self) -> None:
        """End everything. Returns at once."""
        if not self._terminator:
            self._stopping.set()
            self._terminator = threading.Thread(target=self._terminate_in_order, daemon=True)
            self._terminator.start()

    def _start(self) -> None:
        super()._start()
        self._on_started()

    def _terminate_in_order(self) -> None:
        services = {name for name in self._processes if name.partition(".")[0] in self._services}
        self._signal(services)
        deadline = time.monotonic() + DRAIN
        while self._running(services) and time.monotonic() < deadline:
            time.sleep(POLL)
        everything = set(self._processes)
        while self._running(everything):  # honcho's SIGKILL is the last resort
            self._signal(everything)
            time.sleep(REPEAT)

    def _running(self, names: Iterable[str]) -> list[str]:
        """Return which of these processes have not ended, or not even started, yet."""
        return [name for name in names if "returncode" not in self._processes[name]]

    def _signal(self, names: Iterable[str]) -> None:
        for name in self._running(names):
            if pid := self._processes[name].get("pid"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGTERM)


def stop_when_unread() -> None:
    """Wait until stdout is no longer read, then send ourselves SIGTERM."""
    reader = select.poll()
    reader.register(sys.stdout, 0)  # hang-ups are reported without being asked for
    reader.poll()
    silence_dead_streams()
    sys.stderr.write("stdout was closed; stopping\n")
    os.kill(os.getpid(), signal.SIGTERM)


def silence_dead_streams() -> None:
    """Redirect stdout and stderr to /dev/null where they are no longer read."""
    streams = select.poll()
    for stream in (sys.stdout, sys.stderr):
        streams.register(stream, 0)
    null = os.open(os.devnull, os.O_WRONLY)
    for unread, _ in streams.poll(0):
        os.dup2(null, unread)
