"""Socket.IO 4, two nodes, and Redis between them."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.peers import Peer, Running, packages
from bench.peers.redis import redis
from bench.peers.server import Server, serving
from harness import free_port

NODE = "socketio_node.mjs"


def _folder(folder: Path) -> Path:
    return folder / "npm"


def missing(folder: Path) -> str:
    """Name what is not installed yet."""
    if not shutil.which("node"):
        return "node is not installed"
    if packages.debian_program(folder, "redis-server") is None:
        return "redis-server"
    pins = json.loads((packages.PEERS / "package.json").read_text())["dependencies"]
    for name, version in pins.items():
        about = _folder(folder) / "node_modules" / name / "package.json"
        if not about.exists() or json.loads(about.read_text())["version"] != version:
            return f"{name} {version}"
    return ""


def install(folder: Path) -> None:
    """Get it from npm, and Redis from Debian."""
    if packages.debian_program(folder, "redis-server") is None:
        packages.debian(folder, "redis-server")
    packages.npm(_folder(folder))


def versions(folder: Path) -> dict[str, str]:
    """Give what runs."""
    pins = json.loads((packages.PEERS / "package.json").read_text())["dependencies"]
    return {
        **pins,
        "node": packages.quietly(["node", "--version"], folder).strip(),
        "redis-server": packages.version_of(folder, "redis-server"),
    }


@contextlib.contextmanager
def run(folder: Path) -> Iterator[Running]:
    """Run Redis and two nodes."""
    logs = folder / "run"
    shutil.copy(packages.PEERS / NODE, _folder(folder))
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(redis(folder, logs))
        nodes = []
        for name in ("node-a", "node-b"):
            port = free_port()
            command: list[str | Path] = ["node", _folder(folder) / NODE, str(port), str(bus.port)]
            nodes.append(
                stack.enter_context(serving(Server(name, command, port, {"NODE_ENV": "production"}, logs)))
            )
        a, b = nodes
        yield Running((a.port, b.port), {"node-a": a.pid, "redis": bus.pid, "node-b": b.pid}, bus)


PEERS = (
    Peer(
        name="socketio",
        title="Socket.IO 4 + Redis",
        dialect="socketio",
        parts="two Node processes, Redis",
        promise="at most once",
        install=install,
        run=run,
        versions=versions,
        missing=missing,
    ),
)
