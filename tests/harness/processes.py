"""Child processes, each with a log file and ended by its pid; free ports; processes left behind."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.waiting import eventually_sync

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
OMITTED = ("CLOUDMATCH", "PYTHONDONTWRITEBYTECODE")  # from the environment of started programs
_PORTS = random.SystemRandom()
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # pytest workers
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # the number of this one
_taken: set[int] = set()  # ports returned so far


def free_port() -> int:
    """Return a free TCP port on loopback, outside the kernel's range of ephemeral ports.

    A server that restarts on its port needs one of these: a client that retries a closed port within the
    ephemeral range may be assigned that port itself, and connect to itself. No port is returned twice, nor to
    two pytest workers: one that is free now may belong to a server that is restarting.
    """
    while True:
        port = _PORTS.randrange(20_000 + _WORKER % _WORKERS, 32_000, _WORKERS)
        if port in _taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process, with `settings` as its only CloudMatch settings.

    Bytecode is cached on disk: services are started hundreds of times from the same sources.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OMITTED)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT / "deploy/local"), **settings}


def alive(folder: Path) -> dict[int, str]:
    """Pid and command line of every process that was started with `folder` in its environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(folder).encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:  # ended, or another user's
                continue
    return found


def children(pid: int) -> dict[int, str]:
    """Pid and command line of every running child of a process."""
    found = {}
    with contextlib.suppress(OSError):  # ended, or its child has
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                if command := Path(f"/proc/{child}/cmdline").read_text().replace("\0", " "):
                    found[child] = command
    return found


class Process:
    """A running program. Its output goes to `log_file`, or its stdout to the file descriptor `stdout`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str],
        folder: Path,
        stdout: int | None = None,
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("ab") as log:
            # Its own session: Ctrl-C reaches only pytest, which then ends its children in order.
            self._child = subprocess.Popen(
                list(map(str, command)),
                env=environment(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while the process runs."""
        return self._child.poll()

    @property
    def log(self) -> str:
        """All that the process has printed so far."""
        return self.log_file.read_text(errors="replace")

    def tail(self, lines: int = 40) -> str:
        """The end of the log, for error messages."""
        return f"--- {self.name}, pid {self.pid}, exit {self.returncode}\n" + "\n".join(
            self.log.splitlines()[-lines:]
        )

    def wait_line(self, pattern: str, deadline: float = 20) -> re.Match[str]:
        """Wait until `pattern` occurs in the log; return the match.

        Raises:
            AssertionError: the process ended, or the deadline passed; includes the end of the log.
        """

        def found() -> re.Match[str] | None:
            over = self.returncode is not None
            match = re.search(pattern, self.log)
            if match is None and over:
                raise AssertionError(f"{self.name} ended before it printed {pattern!r}\n{self.tail()}")
            return match

        try:
            match = eventually_sync(found, deadline, f"{self.name} printing {pattern!r}")
        except AssertionError as error:
            error.add_note(self.tail())
            raise
        assert match
        return match

    def wait(self, deadline: float = 10) -> int:
        """Wait for the process to end; return its exit code."""
        try:
            return self._child.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is still running after {deadline} s\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        """Send a signal; do nothing if the process has ended."""
        self._child.send_signal(number)

    def kill(self) -> None:
        """End the process abruptly (SIGKILL)."""
        self._child.kill()
        self._child.wait()

    def terminate(self, deadline: float = 10) -> bool:
        """End the process by SIGTERM, or by SIGKILL after `deadline`; return whether SIGTERM sufficed."""
        self._child.send_signal(signal.SIGTERM)
        self._child.send_signal(signal.SIGCONT)
        try:
            self._child.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True
