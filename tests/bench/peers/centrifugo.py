"""Centrifugo, two nodes, and Redis between them; where Go is at hand to build it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.peers import Peer, Running, packages
from bench.peers.redis import redis
from bench.peers.server import Server, serving
from harness import free_port

MODULE, VERSION = "github.com/centrifugal/centrifugo/v6", "6.9.1"


def _program(folder: Path) -> Path:
    return folder / f"go/centrifugo-{VERSION}"


def missing(folder: Path) -> str:
    """Name what is not installed yet."""
    if packages.debian_program(folder, "redis-server") is None:
        return "redis-server"
    return "" if _program(folder).exists() else f"centrifugo {VERSION}"


def install(folder: Path) -> None:
    """Build it, and get Redis from Debian."""
    if packages.debian_program(folder, "redis-server") is None:
        packages.debian(folder, "redis-server")
    packages.go(_program(folder), f"{MODULE}@v{VERSION}")


def versions(folder: Path) -> dict[str, str]:
    """Give what runs."""
    return {"centrifugo": VERSION, "redis-server": packages.version_of(folder, "redis-server")}


def settings(port: int, redis_port: int) -> dict[str, Any]:
    """Let everybody connect, subscribe and publish; keep no history, which would cost more."""
    return {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "client": {"insecure": True},
        "engine": {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{redis_port}"}},
        "log": {"level": "error"},
    }


@contextlib.contextmanager
def run(folder: Path) -> Iterator[Running]:
    """Run Redis and two nodes."""
    logs = folder / "run"
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(redis(folder, logs))
        nodes = []
        for name in ("centrifugo-a", "centrifugo-b"):
            port = free_port()
            file = logs / f"{name}-{port}.json"
            file.write_text(json.dumps(settings(port, bus.port)))
            command = [_program(folder), "-c", file]
            nodes.append(stack.enter_context(serving(Server(name, command, port, {}, logs))))
        a, b = nodes
        yield Running((a.port, b.port), {"centrifugo-a": a.pid, "redis": bus.pid, "centrifugo-b": b.pid}, bus)


PEERS = (
    Peer(
        name="centrifugo",
        title="Centrifugo + Redis",
        dialect="centrifugo",
        parts="two nodes, Redis, no history",
        promise="at most once",
        install=install,
        run=run,
        versions=versions,
        missing=missing,
    ),
)
