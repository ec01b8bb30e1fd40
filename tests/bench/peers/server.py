"""A program that listens on one port, and can be restarted there."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.peers import PeerMissingError
from harness import Process, eventually_sync
from harness.servers import answers


class Server:
    """A program that listens on `port` of loopback."""

    def __init__(
        self, name: str, command: Sequence[str | Path], port: int, env: Mapping[str, str], logs: Path
    ) -> None:
        self.name, self.command, self.port, self.env, self.logs = name, command, port, env, logs
        self.process: Process | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; return once it is listening."""
        process = self.process = Process(self.name, self.command, self.env, self.logs)

        def listens() -> bool:
            if process.returncode is not None:
                raise PeerMissingError(f"{self.name} ended: {process.tail(5)}")
            return answers(self.port)

        eventually_sync(listens, 10, f"{self.name} listening")

    def restart(self) -> None:
        """Wait until it has ended, then start it."""
        if self.process is not None:
            self.process.wait(10)
        self.start()

    def stop(self) -> None:
        """Stop it, if it was started."""
        if self.process is not None:
            self.process.terminate()


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server."""
    try:
        server.start()
        yield server
    finally:
        server.stop()
