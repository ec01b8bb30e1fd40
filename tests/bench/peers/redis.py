"""Redis, for the peers that need one."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.peers import PeerMissingError, Running, packages
from bench.peers.server import Server, serving
from harness import free_port


@contextlib.contextmanager
def redis(folder: Path, logs: Path) -> Iterator[Server]:
    """Run Redis without persistence."""
    program = packages.debian_program(folder, "redis-server")
    if program is None:
        raise PeerMissingError("redis-server is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with serving(Server("redis", command, port, packages.debian_environment(folder), logs)) as server:
        yield server


@contextlib.contextmanager
def two_nodes(
    folder: Path,
    name: str,
    command: Callable[[int, int], Sequence[str | Path]],
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run Redis and two nodes that use it.

    Args:
        command: returns the command that starts a node, given its port and that of Redis.
        env: environment of the nodes.
    """
    logs = folder / "run"
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(redis(folder, logs))
        a, b = (
            stack.enter_context(serving(Server(node, command(port, bus.port), port, env or {}, logs)))
            for node, port in ((f"{name}-{which}", free_port()) for which in "ab")
        )
        yield Running((a.port, b.port), {a.name: a.pid, "redis": bus.pid, b.name: b.pid}, bus)
