"""A Redis of our own, for the peers that stand on one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.peers import PeerMissingError, packages
from bench.peers.server import Server, serving
from harness import free_port


@contextlib.contextmanager
def redis(folder: Path, logs: Path) -> Iterator[Server]:
    """Run Redis; it keeps nothing on disk."""
    program = packages.debian_program(folder, "redis-server")
    if program is None:
        raise PeerMissingError("redis-server is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with serving(Server("redis", command, port, packages.debian_environment(folder), logs)) as server:
        yield server
