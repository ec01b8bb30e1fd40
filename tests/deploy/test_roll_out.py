"""Every pod is replaced in turn, as in a roll-out by Kubernetes, while devices exchange payloads.

NATS, with TLS and keys, and the settings are those of the environment `production`. The devices are those of
the Python client; a load balancer forwards each connection to an edge that is ready.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.history import history, position_range
from deploy.loopback import Environment, Node
from faults import report
from faults.checker import sum_by_name
from faults.devices import V1Device
from faults.link import Link
from faults.run import BEFORE, Result
from faults.workload import Workload
from harness import Service, eventually
from harness.amqp import arriving, sizes
from harness.facts import Books

PAIRS, RATE = 6, 300  # payloads per second in total
# Tolerated difference between the facts and the bytes received, as a share of the latter. A size may be
# counted twice if both devices of a match leave an edge that stops. 0.1 % was observed on a busy machine.
TOLERANCE = 0.005
PAUSE = 0.5  # s of load between two steps
Start = Callable[..., Service]


class System:
    """The pods of all services."""

    def __init__(self, nodes: list[Node], start: Start) -> None:
        self.nodes = nodes
        self._start = start
        self._made = 0
        self.workers = [self._next("match-engine") for _ in range(2)]
        self.edges = [self._next("edge") for _ in range(2)]
        self.journal = start("journal", "journal-0")
        self.bridge = self._next("bridge-rabbit")

    def _next(self, kind: str) -> Service:
        self._made += 1
        return self._start(kind, f"{kind}-{self._made}")

    def ports(self) -> list[int]:
        """Return the ports of the edges that are ready, in random order."""
        ports = [int(edge.url.rpartition(":")[2]) for edge in self.edges]
        random.shuffle(ports)
        return ports

    def _deployment(self, pods: list[Service]) -> None:
        """Replace the oldest pod: start a new one, remove the old one from the balancer, then stop it."""
        pods.append(self._next(pods[0].name))
        pods.pop(0).terminate(20)

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield all replacements in order: a name, and the function that does it."""
        for node in reversed(self.nodes):  # as a StatefulSet does
            yield "a server of NATS", node.replace
        for _ in self.workers:
            yield "a worker", lambda: self._deployment(self.workers)
        for _ in self.edges:
            yield "an edge", lambda: self._deployment(self.edges)
        yield "the journal", self.journal.restart
        yield "a bridge", self._bridge

    def _bridge(self) -> None:
        old, self.bridge = self.bridge, self._next("bridge-rabbit")
        old.terminate(20)


@pytest.fixture
def here(tmp_path: Path, amqp_url: str) -> Iterator[Environment]:
    environment = Environment("overlays/production", tmp_path)
    environment.secrets["rabbitmq"] = {"url": amqp_url}
    with environment.nats():
        yield environment


@contextlib.asynccontextmanager
async def load(system: System) -> AsyncIterator[Workload]:
    """Let devices exchange payloads; at the end, verify that all have arrived."""
    workload = Workload(PAIRS, RATE, 2019, V1Device)
    async with Link(system.ports) as balancer:
        await workload.connect([f"http://127.0.0.1:{balancer.port}"])
        workload.start()
        yield workload
        await workload.finish()
        try:
            assert workload.problems() == []
        finally:
            await workload.close()


async def bytes_in_facts(here: Environment) -> int:
    """Sum the sizes that facts count, or that the journal will."""
    bus = await connect(here.person("journal"), "journal")
    try:
        _, last = await position_range(bus)
        books = Books()
        async for batch in history(bus, 0, last):
            for position, fact in batch:
                books.fold(position, fact)
        return books.bytes_delivered
    finally:
        await bus.close()


@pytest.mark.servers
@pytest.mark.timeout(1800)
async def test_a_roll_out_of_everything_loses_nothing_and_duplicates_nothing(
    here: Environment, amqp_url: str, request: pytest.FixtureRequest
) -> None:
    result, names = Result(), [BEFORE]
    with here.services() as start:
        system = await asyncio.to_thread(System, here.nodes, start)
        async with arriving(amqp_url) as batches:
            async with load(system) as workload:
                for _ in range(request.config.getoption("--rounds")):
                    for name, replace in system.steps():
                        await asyncio.sleep(PAUSE)
                        workload.checker.start_span()
                        names.append(name)
                        await asyncio.to_thread(replace)
                await asyncio.sleep(PAUSE)
            result.rows = sum_by_name(list(zip(names, workload.checker.spans, strict=True)))
            for span in workload.checker.spans:
                result.total.add(span)
            result.faults = len(names) - 1
            print(f"\n{report.markdown(result)}\ndevices resumed {workload.resumed} times")  # noqa: T201 # -s shows it
            assert result.total.violations == 0
            assert workload.received == workload.sent > 1000
            assert workload.resumed >= PAIRS

            published = await bytes_in_facts(here)
            counts: dict[str, int] = {}

            def agree() -> bool:
                states = [system.journal.get_json(f"/device/state/{t.name}") for t in workload.devices]
                counts["journal"] = sum(state["bytesReceived"] for state in states)
                counts["rabbitmq"] = sum(sizes(batches))
                return counts["journal"] == counts["rabbitmq"] == published

            try:
                await eventually(agree, 30, f"{published} bytes in journal and RabbitMQ")
            except AssertionError as error:
                error.add_note(str(counts))
                raise
            verified = await asyncio.to_thread(system.journal.ask, "verify")
            assert verified.returncode == 0, verified
            print(f"devices received {workload.bytes_received:,} bytes, the facts contain {published:,}")  # noqa: T201 # the same
            assert abs(published - workload.bytes_received) <= TOLERANCE * workload.bytes_received
    here.check()
