"""The processes that a payload passes through, and nothing else."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from harness import NatsServer, nats_server, service


class Stack(NamedTuple):
    """What is measured: ports of the edges in pairs, pids by name."""

    ports: tuple[int, ...]
    pids: dict[str, int]
    nats: NatsServer

    @property
    def bus(self) -> str:
        """URL of the NATS server."""
        return self.nats.url


@contextlib.contextmanager
def stack(edges: int = 2, workers: int = 1) -> Iterator[Stack]:
    """Run so many edges (1 or an even number) and workers on one NATS server."""
    with contextlib.ExitStack() as running:
        nats = running.enter_context(nats_server())
        bus = {"CLOUDMATCH_NATS_URL": nats.url}
        matching = [running.enter_context(service("match-engine", bus)) for _ in range(workers)]
        names = [f"edge-{letter}" for letter in "abcdefgh"[:edges]]
        serving = [running.enter_context(service("edge", {**bus, "CLOUDMATCH_EDGE_NAME": n})) for n in names]
        ports = [int(edge.url.rpartition(":")[2]) for edge in serving]
        pids = {name: edge.process.pid for name, edge in zip(names, serving, strict=True)}
        pids["nats-server"] = nats.process.pid
        for number, worker in enumerate(matching):
            pids[f"worker-{number}" if number else "worker"] = worker.process.pid
        yield Stack(tuple(ports if edges > 1 else 2 * ports), pids, nats)
