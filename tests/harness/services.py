"""CloudMatch's own processes, each by its console script."""

import contextlib
import json
import re
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.processes import BIN, Process, children, environment
from harness.waiting import eventually_sync

LISTENS = r"listening at (https?://\S+:\d+)"
TRACEBACK = "Traceback (most recent call last)"


# Like the kubelet, which accepts any certificate.
_TRUSTING = ssl.create_default_context()
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE


class Service:
    """A running service. `url` is its HTTP side, without a slash at the end."""

    def __init__(self, name: str, env: Mapping[str, str], folder: Path) -> None:
        self.name, self.env, self.folder = name, dict(env), folder
        self.url = ""
        self.process: Process
        self.starts = 0

    def start(self, *, ready: bool = True, deadline: float = 20) -> None:
        """Start the process; return once it listens and, with `ready`, its readiness is 200."""
        self.starts += 1
        self.process = Process(f"{self.name}-{self.starts}", [BIN / self.name], self.env, self.folder)
        self.url = self.process.wait_line(LISTENS, deadline)[1]
        if ready:
            self.wait_ready(deadline)

    def wait_ready(self, deadline: float = 20) -> None:
        """Return once the readiness probe gives 200."""

        def ready() -> bool:
            assert self.process.returncode is None, f"{self.name} ended\n{self.process.tail()}"
            self.probe = self.get("/system/readiness")
            return self.probe[0] == 200

        try:
            eventually_sync(ready, deadline, f"readiness of {self.name}")
        except AssertionError as error:
            error.add_note(f"last answer: {self.probe}\n{self.process.tail()}")
            raise

    def get(self, path: str, body: bytes | None = None, key: str = "") -> tuple[int, str]:
        """Status and text of a GET (or, with a JSON `body`, a POST), perhaps with a key; (0, reason) without
        an answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 # on loopback
        try:
            with urllib.request.urlopen(request, timeout=5, context=_TRUSTING) as answer:  # noqa: S310 # the same
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def get_json(self, path: str) -> Any:
        """JSON of a GET that must answer 200."""
        status, text = self.get(path)
        assert status == 200, f"{self.name} answered {status} to {path}: {text}"
        return json.loads(text)

    def metric(self, name: str) -> float:
        """Sum of a metric over all its labels; 0 if it is missing."""
        pattern = rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)"
        return sum(map(float, re.findall(pattern, self.get("/metrics")[1], re.MULTILINE)))

    def ask(self, *command: str, deadline: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the same console script, with the same settings, beside the process."""
        return subprocess.run(
            [BIN / self.name, *command],
            env=environment(self.env),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )

    def kill(self) -> None:
        """End the process by SIGKILL."""
        self.process.kill()

    def terminate(self, deadline: float = 10) -> None:
        """End the process by SIGTERM; fail if that does not suffice."""
        assert self.process.terminate(deadline), f"SIGTERM did not end {self.name}\n{self.process.tail()}"

    def restart(self, *, ready: bool = True, deadline: float = 20) -> None:
        """Start the process again, after ending it if it still runs. With port 0 `url` changes."""
        if self.process.returncode is None:
            self.terminate()
        self.start(ready=ready, deadline=deadline)

    def logs(self) -> str:
        """Output of all starts of this service."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))

    def check(self) -> None:
        """Fail when the service logged a traceback, or has failed."""
        logs = self.logs()
        assert TRACEBACK not in logs, f"{self.name} logged a traceback\n{logs[-8000:]}"
        code = self.process.returncode
        assert code is None or code in (0, -9, -15), f"{self.name} ended\n{self.process.tail()}"


def source_of(analytics: Service) -> int | None:
    """Pid of the process of analytics that reads from RabbitMQ; None while there is none."""
    commands = children(analytics.process.pid).items()
    return next((pid for pid, command in commands if "spawn_main" in command), None)


@contextlib.contextmanager
def service(
    name: str, env: Mapping[str, str] | None = None, *, ready: bool = True, deadline: float = 20
) -> Iterator[Service]:
    """Run the console script `name` with these settings, on a free port, with a run folder of its own.

    Fails the test when the log holds a traceback or SIGTERM does not end the process.
    """
    with tempfile.TemporaryDirectory(prefix=f"cloudmatch-{name}-", ignore_cleanup_errors=True) as folder:
        port = f"CLOUDMATCH_{name.upper().replace('-', '_')}_PORT"
        settings = {port: "0", "CLOUDMATCH_RUN_DIR": f"{folder}/run", **(env or {})}
        running = Service(name, settings, Path(folder))
        try:
            running.start(ready=ready, deadline=deadline)
            yield running
            running.check()
            if running.process.returncode is None:
                running.terminate()
            running.check()
        except BaseException as error:
            if running.starts:
                error.add_note(running.process.tail())
            raise
        finally:
            if running.starts and running.process.returncode is None:
                running.process.terminate(2)
