"""Starlette under uvicorn, two processes, and Redis between them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.peers import Peer, Running, packages
from bench.peers.redis import redis
from bench.peers.server import Server, serving
from harness import free_port

PINS = {
    "starlette": "1.10.0",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
    "httptools": "0.9.0",
    "websockets": "17.4",
    "redis": "8.1.0",
    "hiredis": "3.5.0",
}
PROTOCOL = "websockets-sansio"  # the fastest of those that uvicorn offers


def _folder(folder: Path) -> Path:
    return folder / "python"


def missing(folder: Path) -> str:
    """Name what is not installed yet."""
    if packages.debian_program(folder, "redis-server") is None:
        return "redis-server"
    for name, version in PINS.items():
        if not any(_folder(folder).glob(f"lib/python*/site-packages/{name}-{version}.dist-info")):
            return f"{name} {version}"
    return ""


def install(folder: Path) -> None:
    """Get it from PyPI, and Redis from Debian."""
    if packages.debian_program(folder, "redis-server") is None:
        packages.debian(folder, "redis-server")
    packages.pypi(_folder(folder), PINS)


def versions(folder: Path) -> dict[str, str]:
    """Give what runs."""
    return {**PINS, "redis-server": packages.version_of(folder, "redis-server")}


@contextlib.contextmanager
def run(folder: Path) -> Iterator[Running]:
    """Run Redis and two processes of uvicorn."""
    logs = folder / "run"
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(redis(folder, logs))
        nodes = []
        for name in ("uvicorn-a", "uvicorn-b"):
            port = free_port()
            program = [_folder(folder) / "bin/python", "-P", packages.PEERS / "starlette_node.py"]
            command: list[str | Path] = [*program, str(port), str(bus.port), PROTOCOL]
            nodes.append(stack.enter_context(serving(Server(name, command, port, {}, logs))))
        a, b = nodes
        yield Running((a.port, b.port), {"uvicorn-a": a.pid, "redis": bus.pid, "uvicorn-b": b.pid}, bus)


PEERS = (
    Peer(
        name="starlette",
        title="Starlette + Redis",
        dialect="plain",
        parts="two uvicorn processes, Redis",
        promise="at most once",
        install=install,
        run=run,
        versions=versions,
        missing=missing,
    ),
)
