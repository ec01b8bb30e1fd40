"""Start everything on this machine, print its URLs, and stop all of it together."""

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from honcho.environ import expand_processes, parse_procfile

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.settings import CommonSettings, SettingsError
from cloudmatch_local import identities, plan, rabbitmq, user
from cloudmatch_local.plan import Listener, Plan
from cloudmatch_local.readiness import wait_and_show
from cloudmatch_local.settings import LEGACY_PORTS, SERVICES, AllSettings, LocalSettings, groups
from cloudmatch_local.supervisor import LogPrinter, Supervisor, silence_dead_streams, stop_when_unread
from cloudmatch_local.user import UserError

ROOT = Path(__file__).resolve().parents[3]
MAX_PROCESSES = 50  # edges or workers
LOG_TAIL = 8  # lines shown of the log of a server that ended


class StartError(Exception):
    """Nothing can be started; the message is one sentence that says what to change."""


def main() -> None:
    """Run everything in the foreground until Ctrl-C or SIGTERM."""
    os.umask(0o077)  # what is written is private to this user
    try:
        sys.exit(run(sys.argv[1:]))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except BrokenPipeError:  # stdout was closed before anything was started
        silence_dead_streams()
        sys.exit(1)


def run(arguments: list[str]) -> int:
    """Check, start, wait; return the exit code: 0 after a request to stop."""
    edges, workers, legacy = _options(arguments)
    environ = dict(os.environ)
    if legacy:
        environ |= {name: port for name, port in LEGACY_PORTS.items() if not environ.get(name)}
    settings = _read(environ)
    folder = (ROOT / settings[CommonSettings].run_dir).resolve()
    if name := settings[LocalSettings].user:
        try:
            environ |= user.become(name, folder, (Path(sys.executable), ROOT / "Procfile", folder))
        except UserError as error:
            raise StartError(str(error)) from None
    for sentence in settings.warnings():
        print(f"warning: {sentence}")
    what = plan.make(settings, edges, workers)
    if legacy and (blocked := _blocked_legacy_ports(what)):
        for sentence in blocked.values():
            print(f"warning: {sentence}")
        environ |= dict.fromkeys(blocked, "0")
        settings = _read(environ)
        what = plan.make(settings, edges, workers)
    check_ports(what)
    if "rabbitmq" in what.counts and (reason := rabbitmq.missing()):
        raise StartError(reason)
    with lock(folder):
        own = identify(settings, what, folder)
        return supervise(what, folder, environment(settings, what, folder, environ), own)


def _read(environ: Mapping[str, str]) -> AllSettings:
    try:
        return AllSettings(groups(), environ)
    except SettingsError as error:
        raise StartError(str(error)) from None


def _blocked_legacy_ports(what: Plan) -> dict[str, str]:
    """Return a sentence, by setting, for each legacy port on which nothing can listen now."""
    return {
        each.variable: f"{each.process} {reason}"
        for each in what.listeners
        if each.legacy and (reason := _why_not(each))
    }


def _options(arguments: list[str]) -> tuple[int, int, bool]:
    """Return how many edges and workers start, and whether the ports of 2019 are served."""
    parser = argparse.ArgumentParser(prog="up", description=__doc__)
    parser.add_argument("--edges", default="1", metavar="N")
    parser.add_argument("--workers", default="1", metavar="N")
    parser.add_argument("--legacy-ports", default="", metavar="1")
    given = parser.parse_args(arguments)
    if given.legacy_ports not in ("", "0", "1"):
        raise StartError(f"LEGACY_PORTS={given.legacy_ports} cannot be used: expected 1 or 0")
    return _count("EDGES", given.edges), _count("WORKERS", given.workers), given.legacy_ports == "1"


def _count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PROCESSES:
        raise StartError(f"{name}={text} cannot be used: expected a number from 1 to {MAX_PROCESSES}")
    return int(text)


def check_ports(what: Plan) -> None:
    """Check that every port is free.

    Raises:
        StartError: one is not; names the setting to change.
    """
    if conflict := what.port_conflict():
        raise StartError(conflict)
    for each in what.listeners:
        if not 0 < each.port < 65536:
            raise StartError(f"{each.process} cannot listen on port {each.port}: change {each.variable}")
        if reason := _why_not(each):
            raise StartError(f"{each.process} {reason}")


def _why_not(listener: Listener) -> str | None:
    """Return why nothing can listen there now."""
    try:
        listen(listener.host, listener.port, listener.variable).close()
    except SettingsError as error:
        return str(error)
    return None


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for ourselves.

    Raises:
        StartError: another `up` holds it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"another `make up` uses {folder}: set CLOUDMATCH_RUN_DIR to another folder"
            ) from None
        yield


def environment(
    settings: AllSettings, what: Plan, folder: Path, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of every process: `environ`, the ports that Procfile lines name, our paths.

    Unless set already, the edges' page finds all services, and may read them.
    """
    page = {"CLOUDMATCH_EDGE_SERVICES": what.services, "CLOUDMATCH_HTTP_ORIGINS": what.origins}
    return {
        **page,
        **environ,
        "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT / "deploy/local"), *filter(None, [environ.get("PYTHONPATH")])]
        ),
        "PYTHONUNBUFFERED": "1",
        "CLOUDMATCH_RUN_DIR": str(folder),
        "CLOUDMATCH_NATS_PORT": str(settings[NatsSettings].port),
        "CLOUDMATCH_LOCAL_NATS_MONITORING_PORT": str(settings[LocalSettings].nats_monitoring_port),
    }


def identify(settings: AllSettings, what: Plan, folder: Path) -> identities.Variables:
    """Make credentials for the local servers; return variables of each process."""
    known_only = settings[LocalSettings].keys
    own = identities.on_bus(what, folder)
    identities.write_server_configuration(ROOT, folder, known_only=bool(own))
    if "rabbitmq" in what.counts:
        for process, variables in identities.at_rabbitmq(settings, folder, known_only=known_only).items():
            own.setdefault(process, {}).update(variables)
    return own


def supervise(what: Plan, folder: Path, environ: dict[str, str], own: identities.Variables) -> int:
    """Run the planned processes of the Procfile until one ends for good or a signal asks to stop.

    Args:
        environ: of every process.
        own: what each has besides.
    """
    printer = LogPrinter()
    supervisor = Supervisor(
        printer,
        SERVICES,
        on_started=lambda: _start_watching(what),
        blocked=lambda process: blocked(what, process),
        last_words=lambda process: log_tail(process, folder),
    )
    procfile = parse_procfile((ROOT / "Procfile").read_text()).processes
    chosen = {name: line for name, line in procfile.items() if name in what.counts}
    for process in expand_processes(chosen, concurrency=what.counts):
        supervisor.add_process(
            process.name, process.cmd, env=environ | process.env | own.get(process.name, {}), cwd=str(ROOT)
        )
    # Also stop when the terminal closes (SIGHUP) or our stdout is no longer read (`stop_when_unread`).
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    print(f"starting {sum(what.counts.values())} processes; data in {folder}", flush=True)
    supervisor.loop()
    if not printer.first_exit:
        return 0
    sys.stderr.write(f"{printer.first_exit} cannot run; everything was stopped\n")
    return 1


def _start_watching(what: Plan) -> None:
    threading.Thread(target=wait_and_show, args=(what,), daemon=True).start()
    threading.Thread(target=stop_when_unread, daemon=True).start()


def blocked(what: Plan, process: str) -> str | None:
    """Return why a process cannot start again: another program has its port."""
    reasons = (_why_not(each) for each in what.listeners if each.process == process)
    return next(filter(None, reasons), None)


def log_tail(process: str, folder: Path) -> list[str]:
    """Return the end of the log file of a server; services log to stdout."""
    files = {"nats": "nats/server.log", "rabbitmq": "rabbitmq/log/*.log"}
    tail = []
    for file in folder.glob(files.get(process.partition(".")[0], "none")):
        tail += [f"end of {file}:", *file.read_text(errors="replace").splitlines()[-LOG_TAIL:]]
    return tail


if __name__ == "__main__":
    main()
