"""Centrifugo: two nodes with Redis between them. Built from source, which takes a Go compiler."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.peers import Peer, Running, packages
from bench.peers.redis import two_nodes

MODULE, VERSION = "github.com/centrifugal/centrifugo/v6", "6.9.1"


def _program(folder: Path) -> Path:
    return folder / f"go/centrifugo-{VERSION}"


def missing(folder: Path) -> str:
    """Return what is not installed yet; empty: nothing."""
    if packages.debian_program(folder, "redis-server") is None:
        return "redis-server"
    return "" if _program(folder).exists() else f"centrifugo {VERSION}"


def install(folder: Path) -> None:
    """Build it, and fetch Redis from Debian."""
    if packages.debian_program(folder, "redis-server") is None:
        packages.debian(folder, "redis-server")
    packages.go(_program(folder), f"{MODULE}@v{VERSION}")


def versions(folder: Path) -> dict[str, str]:
    """Return the versions of its programs."""
    return {"centrifugo": VERSION, "redis-server": packages.version_of(folder, "redis-server")}


def settings(port: int, redis_port: int) -> dict[str, Any]:
    """Allow all clients to connect, subscribe and publish; keep no history, which would cost more."""
    return {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "client": {"insecure": True},
        "engine": {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{redis_port}"}},
        "log": {"level": "error"},
    }


def run(folder: Path) -> AbstractContextManager[Running]:
    """Run Redis and two nodes."""

    def command(port: int, redis: int) -> list[str | Path]:
        file = folder / "run" / f"centrifugo-{port}.json"
        file.write_text(json.dumps(settings(port, redis)))
        return [_program(folder), "-c", file]

    return two_nodes(folder, "centrifugo", command)


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
