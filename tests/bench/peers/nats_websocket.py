"""NATS' own WebSocket listener: the lower bound, a single process without guarantees."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.peers import Peer, Running, packages
from bench.peers.server import Server, serving
from harness import BIN, free_port

SETTINGS = """
listen: "127.0.0.1:{port}"
websocket {{ listen: "127.0.0.1:{websocket}", no_tls: true }}
"""


def missing(_: Path) -> str:
    """Return an empty string: CloudMatch requires it, so it is installed."""
    return ""


def install(_: Path) -> None:
    """Do nothing: it is installed."""


def versions(folder: Path) -> dict[str, str]:
    """Return the versions of its programs."""
    return {"nats-server": packages.output_of([BIN / "nats-server", "--version"], folder).split()[-1]}


@contextlib.contextmanager
def run(folder: Path) -> Iterator[Running]:
    """Run one nats-server."""
    logs, port = folder / "run", free_port()
    file = logs / f"nats-{port}.conf"
    file.write_text(SETTINGS.format(port=free_port(), websocket=port))
    with serving(Server("nats-websocket", [BIN / "nats-server", "-c", file], port, {}, logs)) as server:
        yield Running((port, port), {"nats-server": server.pid}, server)


PEERS = (
    Peer(
        name="nats",
        title="NATS WebSocket",
        dialect="nats",
        parts="one nats-server",
        promise="at most once",
        install=install,
        run=run,
        versions=versions,
        missing=missing,
    ),
)
