"""NATS, RabbitMQ and the Kafka broker, private to a test or a run."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cloudmatch_local import rabbitmq as node
from harness.processes import BIN, ROOT, Process, environment, free_port
from harness.waiting import eventually_sync

OK = {"status": "ok"}  # of a healthy NATS server
ATTEMPTS = 3  # another run may take the port before the server does


class ServerMissingError(Exception):
    """A server is not installed; the message explains how to install it."""


class NatsServer:
    """A nats-server with JetStream. It keeps its port and its store over `restart`."""

    def __init__(self, folder: Path, name: str = "", more: Sequence[str] = ()) -> None:
        self.folder = folder
        self.name = name  # in the cluster; empty: the server chooses one
        self.more = [*(("-n", name) if name else ()), *more]  # options
        self.port = 0
        self.monitor = ""  # URL of the monitoring side; changes at every start
        self.process: Process

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, deadline: float = 10) -> None:
        """Start the server; return once clients can connect."""
        port = self.port or free_port()
        self.process = Process(
            "nats-server",
            [
                *(BIN / "nats-server", "-c", ROOT / "nats/server.conf", "-a", "127.0.0.1"),
                *("-p", str(port), "-m", "-1", "-sd", self.folder / "store", "--ports_file_dir", self.folder),
                *self.more,
            ],
            {},
            self.folder,
        )
        ports = self.folder / f"nats-server_{self.process.pid}.ports"

        def known() -> bool:
            assert self.process.returncode is None, f"nats-server ended\n{self.process.tail()}"
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                self.monitor = json.loads(ports.read_text())["monitoring"][0]
                return answers(port)
            return False

        eventually_sync(known, deadline, "nats-server listening")
        self.port = port

    def ask(self, path: str) -> Any:
        """JSON of the monitoring side; None if it does not answer, or with an error."""
        try:
            with urllib.request.urlopen(self.monitor + path, timeout=2) as answer:  # noqa: S310 # on loopback
                return json.load(answer)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self.process.kill()

    def terminate(self) -> None:
        """End the server by SIGTERM."""
        self.process.terminate()

    def restart(self) -> None:
        """Start the server again, on its port and its store, after ending it if it still runs."""
        self.terminate()
        self.start()


class NatsCluster:
    """NATS servers that keep JetStream's streams together; any minority of them may die."""

    def __init__(self, servers: list[NatsServer]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    def leader(self, stream: str) -> NatsServer | None:
        """The server that leads a stream; None while there is none, or no such stream."""
        for server in self.servers:
            answer = server.ask("/jsz?streams=1") if server.process.returncode is None else None
            for account in (answer or {}).get("account_details", ()):
                for detail in account.get("stream_detail", ()):
                    if detail["name"] == stream:
                        name = detail.get("cluster", {}).get("leader")
                        return next((s for s in self.servers if s.name == name), None)
        return None

    def healthy(self) -> bool:
        """Whether all servers run and are in sync."""
        return all(s.process.returncode is None and s.ask("/healthz") == OK for s in self.servers)

    def wait_healthy(self, deadline: float = 30) -> None:
        """Return once the cluster can lose a server again."""
        eventually_sync(self.healthy, deadline, "health of all NATS servers")


class RabbitMQ:
    """A RabbitMQ node without plugins, user guest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: Process

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self, deadline: float = 60) -> None:
        """Start the node; return once clients can connect."""
        port = self.port or free_port()
        settings = {"CLOUDMATCH_AMQP_PORT": str(port), "CLOUDMATCH_RUN_DIR": str(self.folder)}
        command = [BIN / "python", "-m", "cloudmatch_local.rabbitmq"]
        self.process = Process("rabbitmq", command, settings, self.folder)

        def listening() -> bool:
            assert self.process.returncode is None, f"RabbitMQ ended\n{self.process.tail()}\n{self.log()}"
            return answers(port)

        try:
            eventually_sync(listening, deadline, "RabbitMQ listening")
        except AssertionError as error:
            error.add_note(self.log())
            raise
        self.port = port

    def log(self) -> str:
        """The end of the node's own log."""
        files = sorted((self.folder / "rabbitmq/log").glob("*.log"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)

    def control(self, *command: str) -> str:
        """Run a command of ``rabbitmqctl`` on the node; return its output."""
        settings = {"CLOUDMATCH_AMQP_PORT": str(self.port), "CLOUDMATCH_RUN_DIR": str(self.folder)}
        done = subprocess.run(
            [BIN / "python", "-m", "cloudmatch_local.rabbitmq", *command],
            env=environment(settings),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout

    def kill(self) -> None:
        """End the node by SIGKILL."""
        self.process.kill()

    def terminate(self) -> None:
        """End the node by SIGTERM."""
        self.process.terminate(20)

    def restart(self) -> None:
        """Start the node again, on its port and its data, after ending it if it still runs."""
        self.terminate()
        self.start()


class KafkaBroker:
    """The Kafka-protocol broker of local development. It forgets everything when it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bootstrap = ""  # host:port
        self.process: Process

    def start(self, deadline: float = 20) -> None:
        """Start the broker; return once it listens."""
        settings = {"CLOUDMATCH_KAFKA_PORT": "0", "CLOUDMATCH_RUN_DIR": str(self.folder / "run")}
        self.process = Process("kafka", [BIN / "analytics-broker"], settings, self.folder)
        self.bootstrap = self.process.wait_line(r"listening at (?:\w+://)?(\S+:\d+)", deadline)[1]

    @property
    def settings(self) -> dict[str, str]:
        """Settings of services that use it."""
        return {"CLOUDMATCH_KAFKA_PORT": self.bootstrap.rpartition(":")[2]}

    def kill(self) -> None:
        """End the broker by SIGKILL."""
        self.process.kill()

    def terminate(self) -> None:
        """End the broker by SIGTERM."""
        self.process.terminate()


def answers(port: int) -> bool:
    """Whether something listens on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def nats_server() -> Iterator[NatsServer]:
    """Run a NATS server with JetStream in a folder of its own."""
    with _folder("nats") as folder, running(NatsServer(folder)) as server:
        yield server


@contextlib.contextmanager
def nats_cluster(size: int = 3) -> Iterator[NatsCluster]:
    """Run a cluster of NATS servers with JetStream, each in a folder of its own."""
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(size)]
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
        servers = [
            NatsServer(
                stack.enter_context(_folder("nats")),
                f"nats-{i}",
                [
                    *("--cluster_name", "test", "--cluster", f"nats://127.0.0.1:{port}", "--routes", routes),
                    "--no_advertise=true",  # clients come by the addresses they were given, and no other
                ],
            )
            for i, port in enumerate(ports)
        ]
        for server in servers:
            stack.enter_context(running(server))
        cluster = NatsCluster(servers)
        cluster.wait_healthy()
        yield cluster


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitMQ]:
    """Run a RabbitMQ node in a folder of its own.

    Raises:
        ServerMissingError: RabbitMQ is not installed.
    """
    if reason := node.missing():
        raise ServerMissingError(reason)
    with _folder("rabbitmq") as folder, running(RabbitMQ(folder)) as server:
        yield server


@contextlib.contextmanager
def kafka_broker() -> Iterator[KafkaBroker]:
    """Run the Kafka-protocol broker."""
    with _folder("kafka") as folder, running(KafkaBroker(folder)) as server:
        yield server


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"cloudmatch-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextlib.contextmanager
def running(server: NatsServer | RabbitMQ | KafkaBroker) -> Iterator:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            server.start()
            break
        except AssertionError as error:
            server.process.kill()
            if attempt == ATTEMPTS or not re.search("(?i)address already in use|eaddrinuse", _text(error)):
                raise
    try:
        yield server
    finally:
        server.terminate()


def _text(error: BaseException) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", ())])
