"""The stack under test: a NATS cluster, edges, workers, and links that can be cut."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from cloudmatch_bus.contract.subjects import EVERYTHING
from faults.link import Link
from faults.nemesis import CUTTABLE, EDGES, INITIAL_WORKERS, Fault, Kind
from harness import NatsCluster, NatsServer, Service, free_port, nats_cluster, service

ROAMING = EDGES - 1  # the edge that gets a new port whenever it starts
PAIRING, EVENTS = "KV_match", "EVENTS"


class Stack:
    """A running stack. `inject` carries out a fault and returns when its repair is complete."""

    def __init__(self, cluster: NatsCluster, links: list[Link]) -> None:
        self.cluster = cluster
        self.edges: list[Service] = []
        self._worker_links = links[: len(links) // 2]
        self._edge_links = links[len(links) // 2 :]
        self._workers: dict[int, Service] = {}
        # Services end before NATS does; their logs are checked then.
        self._services = contextlib.ExitStack()

    # -- start and stop

    async def start(self) -> None:
        """Start edges and workers."""
        names = range(EDGES)
        edges = [asyncio.to_thread(self._service, "edge", self._bus(self._edge_links, i), i) for i in names]
        workers = [self._start_worker(slot) for slot in range(INITIAL_WORKERS)]
        self.edges = (await asyncio.gather(asyncio.gather(*edges), *workers))[0]

    def stop(self) -> None:
        """End all services.

        Raises:
            AssertionError: one logged a traceback, or ended unexpectedly.
        """
        self._services.close()

    @property
    def bus(self) -> dict[str, str]:
        """Settings of a service on the bus, by no link that is cut."""
        return {"CLOUDMATCH_NATS_URL": self.cluster.url, "CLOUDMATCH_NATS_REPLICAS": "3"}

    def _bus(self, links: list[Link], number: int) -> dict[str, str]:
        through_links = ",".join(f"nats://127.0.0.1:{link.port}" for link in links)
        return {**self.bus, "CLOUDMATCH_NATS_URL": through_links} if number == CUTTABLE else self.bus

    def _service(self, name: str, settings: dict[str, str], number: int) -> Service:
        if name == "edge":
            port = 0 if number == ROAMING else free_port()
            settings |= {
                "CLOUDMATCH_EDGE_NAME": f"edge-{number}",
                "CLOUDMATCH_EDGE_PORT": str(port),
                "CLOUDMATCH_EDGE_CONNECTS_PER_DEVICE": "0",  # faults may come faster than that
            }
        return self._services.enter_context(service(name, settings, deadline=40))

    def ports(self) -> list[int]:
        """Return the ports of the edges in random order, for a balancer in front of them."""
        ports = [int(edge.url.rpartition(":")[2]) for edge in self.edges]
        random.shuffle(ports)
        return ports

    async def _start_worker(self, slot: int) -> None:
        if (worker := self._workers.get(slot)) is not None:
            await asyncio.to_thread(worker.restart, deadline=40)
        else:
            settings = self._bus(self._worker_links, slot)
            self._workers[slot] = await asyncio.to_thread(self._service, "match-engine", settings, slot)

    # -- faults

    async def inject(self, fault: Fault) -> None:
        """Carry out a fault; return when it is over."""
        await self._injection(fault.kind)(fault)

    def _injection(self, kind: Kind) -> Callable[[Fault], Coroutine[Any, Any, None]]:
        return {
            Kind.KILL_WORKER: self._kill_worker,
            Kind.STOP_WORKER: self._stop_worker,
            Kind.FREEZE_WORKER: self._freeze_worker,
            Kind.START_WORKER: lambda fault: self._start_worker(fault.target),
            Kind.NO_WORKER: self._no_worker,
            Kind.TRACER: self._trace,
            Kind.CUT_WORKER: lambda fault: self._cut(self._worker_links, fault.seconds),
            Kind.CUT_EDGE: lambda fault: self._cut(self._edge_links, fault.seconds),
            Kind.KILL_EDGE: self._end_edge,
            Kind.STOP_EDGE: self._end_edge,
        }.get(kind, self._restart_nats)

    async def _kill_worker(self, fault: Fault) -> None:
        self._workers[fault.target].kill()

    async def _stop_worker(self, fault: Fault) -> None:
        await asyncio.to_thread(self._workers[fault.target].terminate)

    async def _freeze_worker(self, fault: Fault) -> None:
        process = self._workers[fault.target].process
        process.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            process.signal(signal.SIGCONT)

    async def _no_worker(self, fault: Fault) -> None:
        for worker in self._workers.values():
            worker.kill()
        await asyncio.sleep(fault.seconds)
        await asyncio.gather(*(self._start_worker(slot) for slot in range(INITIAL_WORKERS)))

    async def _cut(self, links: list[Link], seconds: float) -> None:
        for link in links:
            link.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            for link in links:
                link.heal()

    async def _end_edge(self, fault: Fault) -> None:
        edge = self.edges[fault.target]
        await asyncio.to_thread(edge.kill if fault.kind is Kind.KILL_EDGE else edge.terminate)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(edge.restart, deadline=40)

    async def _trace(self, fault: Fault) -> None:
        """Subscribe to everything, by the bare protocol: a client would be a slow consumer."""
        server = next(s for s in self.cluster.servers if s.process.returncode is None)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b'CONNECT {"verbose":false,"name":"tracer"}\r\nSUB %b 1\r\n' % EVERYTHING.encode())
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(fault.seconds):
                while await reader.read(1 << 18):
                    writer.write(b"PONG\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _restart_nats(self, fault: Fault) -> None:
        node = await asyncio.to_thread(self._node, fault)
        if fault.kind is Kind.STOP_NATS:
            await asyncio.to_thread(node.terminate)
        else:
            node.kill()
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(node.restart)
        await asyncio.to_thread(self.cluster.wait_healthy, 60)

    def _node(self, fault: Fault) -> NatsServer:
        stream = {Kind.KILL_PAIRING_LEADER: PAIRING, Kind.KILL_EVENTS_LEADER: EVENTS}.get(fault.kind)
        leader = self.cluster.leader(stream) if stream else None
        return leader or self.cluster.servers[fault.target]


@contextlib.asynccontextmanager
async def stack() -> AsyncIterator[Stack]:
    """Run a stack of three NATS nodes, three edges and three workers."""
    with contextlib.ExitStack() as servers:
        cluster = await asyncio.to_thread(servers.enter_context, nats_cluster())
        async with contextlib.AsyncExitStack() as links:
            made_links = [
                await links.enter_async_context(Link(server.port))
                for server in cluster.servers
                for _ in ("worker", "edge")
            ]
            made = Stack(cluster, [*made_links[::2], *made_links[1::2]])
            try:
                await made.start()
                yield made
            finally:
                # Links must live until the processes behind them have ended.
                await asyncio.to_thread(made.stop)
