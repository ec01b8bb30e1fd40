"""A real Kafka for tests with `--kafka`: one KRaft node, from jars that Maven downloads."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.processes import ROOT, Process, environment, free_port
from harness.servers import ServerMissingError, answers
from harness.waiting import eventually_sync

JARS = ROOT / ".run/kafka"
CLUSTER = "cloudmatch-tests-00001"  # 22 characters, as in a UUID
JAVA = ("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*")
CONFIGURATION = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={folder}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""


class Kafka:
    """A node that keeps its port and its data across `restart`. Interchangeable with `KafkaBroker`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._controller = free_port(), free_port()
        self.process: Process

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """Settings with which services find it."""
        return {"CLOUDMATCH_KAFKA_BROKERS": self.bootstrap}

    def start(self, deadline: float = 60) -> None:
        """Start the node; return once clients can connect."""
        file = self.folder / "server.properties"
        if not file.exists():
            file.write_text(
                CONFIGURATION.format(port=self.port, controller=self._controller, folder=self.folder)
            )
            self._run("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(file))
        self.process = Process("kafka", [*JAVA, "kafka.Kafka", file], {}, self.folder)

        def listening() -> bool:
            assert self.process.returncode is None, f"Kafka ended\n{self.process.tail()}"
            return answers(self.port)

        eventually_sync(listening, deadline, "Kafka listening")

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*JAVA, *command],
            env=environment({}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done

    def kill(self) -> None:
        """End the node by SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """Start the node again on its port and its data; end it first if it is still running."""
        self.process.terminate(20)
        self.start()


@contextlib.contextmanager
def kafka() -> Iterator[Kafka]:
    """Run a Kafka in a folder of its own.

    Raises:
        ServerMissingError: Java or the jars are missing.
    """
    if shutil.which("java") is None:
        raise ServerMissingError("Kafka needs Java: on Debian, apt install default-jre-headless")
    if not list(JARS.glob("kafka_*.jar")):
        raise ServerMissingError("Kafka's jars are missing: make test-kafka downloads them")
    with tempfile.TemporaryDirectory(prefix="cloudmatch-kafka-", ignore_cleanup_errors=True) as folder:
        server = Kafka(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.process.terminate(5)
