"""The processes through which payloads pass, and no others."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cloudmatch_bus.contract.streams import BUCKET
from harness import NatsServer, Service, nats_cluster, nats_server, service

DELIVERED = "cloudmatch_edge_payloads_delivered_total"  # by an edge


class Stack(NamedTuple):
    """The processes to measure."""

    ports: tuple[int, ...]  # of the edges, in pairs
    pids: dict[str, int]  # by name
    bus: str  # URL of the NATS servers
    nats: NatsServer  # the only one, or the leader of the device bucket
    edges: tuple[Service, ...]

    def delivered(self) -> float:
        """How many payloads all edges have delivered."""
        return sum(edge.metric(DELIVERED) for edge in self.edges)


@contextlib.contextmanager
def stack(edges: int = 2, workers: int = 1, *, cluster: bool = False) -> Iterator[Stack]:
    """Run edges (1 or an even number) and workers on one NATS server, or on a cluster of three."""
    with contextlib.ExitStack() as running:
        three = running.enter_context(nats_cluster()) if cluster else None
        nats = running.enter_context(nats_server()) if three is None else three.servers[0]
        url = nats.url if three is None else three.url
        bus = {"CLOUDMATCH_NATS_URL": url, "CLOUDMATCH_NATS_REPLICAS": "3" if cluster else "1"}
        matching = [running.enter_context(service("match-engine", bus)) for _ in range(workers)]
        names = [f"edge-{letter}" for letter in "abcdefgh"[:edges]]
        serving = [running.enter_context(service("edge", {**bus, "CLOUDMATCH_EDGE_NAME": n})) for n in names]
        ports = [int(edge.url.rpartition(":")[2]) for edge in serving]
        pids = {name: edge.process.pid for name, edge in zip(names, serving, strict=True)}
        if three is not None:
            nats = three.leader(f"KV_{BUCKET}") or nats
        pids["nats-server"] = nats.process.pid
        for number, worker in enumerate(matching):
            pids[f"worker-{number}" if number else "worker"] = worker.process.pid
        yield Stack(tuple(ports if edges > 1 else 2 * ports), pids, url, nats, tuple(serving))
