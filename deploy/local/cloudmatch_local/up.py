"""Start everything on this machine, say where it is, and stop all of it together: honcho and a Procfile."""

import argparse
import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from honcho.environ import expand_processes, parse_procfile
from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message, Printer

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.settings import CommonSettings, SettingsError
from cloudmatch_local import plan, rabbitmq
from cloudmatch_local.plan import Plan
from cloudmatch_local.readiness import watch
from cloudmatch_local.settings import SERVICES, Everything, LocalSettings, groups

ROOT = Path(__file__).resolve().parents[3]
MOST = 50  # edges or workers
DRAIN = 3.0  # s that services have to end before their servers do


class UnusableError(Exception):
    """`up` cannot start; the message is one sentence that says what to change."""


class Screen(Printer):  # type: ignore[misc]  # honcho is untyped
    """The logs, prefixed; of honcho's own chatter only what matters.

    Args:
        started: called once, when all processes have been started.
    """

    def __init__(self, started: Callable[[], None]) -> None:
        super().__init__(sys.stdout)
        self._started: Callable[[], None] | None = started
        # "edge.1 (exit 1)": the process that ended before anybody asked it to
        self.culprit = ""
        self.asked = False

    def write(self, message: Message) -> None:
        """Show a line of a process; take note of a line of honcho's."""
        if self._started:
            started, self._started = self._started, None
            started()
        if message.name != SYSTEM_PRINTER_NAME:
            self._show(message)
            return
        text = str(message.data).strip()
        if text.endswith("received"):  # SIGINT, SIGTERM
            self.asked = True
            self._show(message._replace(data="stops"))
        elif " stopped (rc=" in text and not self.asked and not self.culprit:
            self.culprit = text.replace(" stopped (rc=", " (exit ")

    def _show(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # nobody reads it; `stop_unread` sees to what follows
            super().write(message)


class Everyone(Manager):  # type: ignore[misc]  # honcho is untyped
    """All processes. The services end first, so that what they still have to say finds its server."""

    ending: threading.Thread | None = None

    def terminate(self) -> None:
        """End everything. Returns at once."""
        if not self.ending:
            self.ending = threading.Thread(target=self._terminate_in_order, daemon=True)
            self.ending.start()

    def _terminate_in_order(self) -> None:
        services = {name for name in self._processes if name.partition(".")[0] in SERVICES}
        self._signal(services)
        deadline = time.monotonic() + DRAIN
        while self._running(services) and time.monotonic() < deadline:
            time.sleep(0.02)
        everyone = set(self._processes)
        while self._running(everyone):  # honcho's SIGKILL ends this at last
            self._signal(everyone)
            time.sleep(0.5)  # a signal in RabbitMQ's first moments is lost: say it again

    def _running(self, names: Iterable[str]) -> list[int]:
        processes = [self._processes[name] for name in names]
        return [p["pid"] for p in processes if "pid" in p and "returncode" not in p]

    def _signal(self, names: Iterable[str]) -> None:
        for pid in self._running(names):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)


def main() -> None:
    """Run everything in the foreground until Ctrl-C, SIGTERM, or the end of any process."""
    try:
        sys.exit(run(sys.argv[1:]))
    except UnusableError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except BrokenPipeError:  # nobody reads what we say, and nothing has been started
        mute()
        sys.exit(1)


def run(arguments: list[str]) -> int:
    """Check, start, wait; give the exit code: 0 when we were asked to stop."""
    edges, workers = _counts(arguments)
    try:
        settings = Everything(groups(), os.environ)
    except SettingsError as error:
        raise UnusableError(str(error)) from None
    for sentence in settings.warnings():
        print(f"warning: {sentence}")
    what = plan.make(settings, edges, workers)
    check_ports(what)
    if "rabbitmq" in what.counts and (reason := rabbitmq.missing()):
        raise UnusableError(reason)
    folder = (ROOT / settings[CommonSettings].run_dir).resolve()
    with lock(folder):
        return start(what, folder, environment(settings, what, folder))


def _counts(arguments: list[str]) -> tuple[int, int]:
    parser = argparse.ArgumentParser(prog="up", description=__doc__)
    parser.add_argument("--edges", default="1", metavar="N")
    parser.add_argument("--workers", default="1", metavar="N")
    given = parser.parse_args(arguments)
    counts = []
    for name, text in (("EDGES", given.edges), ("WORKERS", given.workers)):
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
            raise UnusableError(f"{name}={text} cannot be used: expected a number from 1 to {MOST}")
        counts.append(int(text))
    return counts[0], counts[1]


def check_ports(what: Plan) -> None:
    """Make sure that every port can be taken.

    Raises:
        UnusableError: one cannot; names the setting to change.
    """
    if clash := what.clash():
        raise UnusableError(clash)
    for each in what.listeners:
        if not 0 < each.port < 65536:
            raise UnusableError(f"{each.process} cannot listen on port {each.port}: change {each.variable}")
        try:
            listen(each.host, each.port, each.variable).close()
        except SettingsError as error:
            raise UnusableError(f"{each.process} {error}") from None


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for ourselves.

    Raises:
        UnusableError: another `up` has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UnusableError(
                f"another `make up` keeps its data in {folder}: set CLOUDMATCH_RUN_DIR to another folder"
            ) from None
        yield


def environment(settings: Everything, what: Plan, folder: Path) -> dict[str, str]:
    """Give what every process gets: our environment, the ports that Procfile lines name, our paths.

    The edges' page is told where all services are, and may read them, unless that is set already.
    """
    page = {"CLOUDMATCH_EDGE_SERVICES": what.services, "CLOUDMATCH_HTTP_ORIGINS": what.origins}
    return {
        **page,
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT / "deploy/local"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "PYTHONUNBUFFERED": "1",
        "CLOUDMATCH_RUN_DIR": str(folder),
        "CLOUDMATCH_NATS_PORT": str(settings[NatsSettings].port),
        "CLOUDMATCH_LOCAL_NATS_MONITORING_PORT": str(settings[LocalSettings].nats_monitoring_port),
    }


def start(what: Plan, folder: Path, environ: dict[str, str]) -> int:
    """Run the processes of the Procfile that the plan names, until one ends or we are told to stop."""
    (folder / "nats").mkdir(exist_ok=True)

    def started() -> None:
        threading.Thread(target=watch, args=(what,), daemon=True).start()
        threading.Thread(target=stop_unread, daemon=True).start()

    screen = Screen(started)
    manager = Everyone(screen)
    procfile = parse_procfile((ROOT / "Procfile").read_text()).processes
    chosen = {name: line for name, line in procfile.items() if name in what.counts}
    for process in expand_processes(chosen, concurrency=what.counts):
        manager.add_process(process.name, process.cmd, env=environ | process.env, cwd=str(ROOT))
    # A closed terminal is a wish to stop, too. So is the end of who reads us: `stop_unread`.
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    print(f"starts {len(manager._processes)} processes; their data is under {folder}", flush=True)
    manager.loop()
    if screen.culprit:
        sys.stderr.write(f"{screen.culprit} ended by itself, so everything was stopped\n")
        _show_log(screen.culprit, folder)
        return 1
    return 0


def stop_unread() -> None:
    """Wait until nobody reads what we print any more; then ask ourselves to stop."""
    reader = select.poll()
    reader.register(sys.stdout, 0)  # its end is told unasked
    reader.poll()
    mute()
    sys.stderr.write("nobody reads the logs any more, so everything is stopped\n")
    os.kill(os.getpid(), signal.SIGTERM)


def mute() -> None:
    """Let what we print go nowhere from now on, where nobody reads it."""
    streams = select.poll()
    for stream in (sys.stdout, sys.stderr):
        streams.register(stream, 0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for unread, _ in streams.poll(0):
        os.dup2(nowhere, unread)


def _show_log(culprit: str, folder: Path) -> None:
    files = {"nats": "nats/server.log", "rabbitmq": "rabbitmq/log/*.log"}
    for file in folder.glob(files.get(culprit.partition(".")[0], "none")):
        sys.stderr.write(f"--- the end of {file}:\n")
        sys.stderr.writelines(f"{line}\n" for line in file.read_text(errors="replace").splitlines()[-8:])


if __name__ == "__main__":
    main()
