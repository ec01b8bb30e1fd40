"""Starlette under uvicorn: two processes with Redis between them."""

from contextlib import AbstractContextManager
from pathlib import Path

from bench.peers import Peer, Running, packages
from bench.peers.redis import two_nodes

PINS = {
    "starlette": "1.10.0",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
    "httptools": "0.9.0",
    "websockets": "17.4",
    "redis": "8.1.0",
    "hiredis": "3.5.0",
}
PROTOCOL = "websockets-sansio"  # the fastest that uvicorn offers


def _folder(folder: Path) -> Path:
    return folder / "python"


def missing(folder: Path) -> str:
    """Return what is not installed yet; empty: nothing."""
    if packages.debian_program(folder, "redis-server") is None:
        return "redis-server"
    for name, version in PINS.items():
        if not any(_folder(folder).glob(f"lib/python*/site-packages/{name}-{version}.dist-info")):
            return f"{name} {version}"
    return ""


def install(folder: Path) -> None:
    """Fetch it from PyPI, and Redis from Debian."""
    if packages.debian_program(folder, "redis-server") is None:
        packages.debian(folder, "redis-server")
    packages.pypi(_folder(folder), PINS)


def versions(folder: Path) -> dict[str, str]:
    """Return the versions of its programs."""
    return {**PINS, "redis-server": packages.version_of(folder, "redis-server")}


def run(folder: Path) -> AbstractContextManager[Running]:
    """Run Redis and two uvicorn processes."""

    def command(port: int, redis: int) -> list[str | Path]:
        program = [_folder(folder) / "bin/python", "-P", packages.PEERS / "starlette_node.py"]
        return [*program, str(port), str(redis), PROTOCOL]

    return two_nodes(folder, "uvicorn", command)


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
