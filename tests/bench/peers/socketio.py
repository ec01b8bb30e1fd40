"""Socket.IO 4: two nodes with Redis between them."""

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from bench.peers import Peer, Running, packages
from bench.peers.redis import two_nodes

NODE = "socketio_node.mjs"


def _folder(folder: Path) -> Path:
    return folder / "npm"


def missing(folder: Path) -> str:
    """Return what is not installed yet; empty: nothing."""
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
    """Fetch it from npm, and Redis from Debian."""
    if packages.debian_program(folder, "redis-server") is None:
        packages.debian(folder, "redis-server")
    packages.npm(_folder(folder))


def versions(folder: Path) -> dict[str, str]:
    """Return the versions of its programs."""
    pins = json.loads((packages.PEERS / "package.json").read_text())["dependencies"]
    return {
        **pins,
        "node": packages.output_of(["node", "--version"], folder).strip(),
        "redis-server": packages.version_of(folder, "redis-server"),
    }


def run(folder: Path) -> AbstractContextManager[Running]:
    """Run Redis and two nodes."""
    shutil.copy(packages.PEERS / NODE, _folder(folder))

    def command(port: int, redis: int) -> list[str | Path]:
        return ["node", _folder(folder) / NODE, str(port), str(redis)]

    return two_nodes(folder, "node", command, {"NODE_ENV": "production"})


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
