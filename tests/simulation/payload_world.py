"""Devices, edges, workers, and what happens to them."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from simulation.books import ACK_TIMEOUT, CLAIM_GRACE, Books
from simulation.bucket import CommitChecker, TimedBucket
from simulation.devices import SimulatedDevice
from simulation.network import Network
from simulation.processes import Edge, Worker

APART = 20.0  # degrees between two pairs: no device is in reach of another pair
REST = 60.0  # s after which everything must have been delivered
SETTLE = 2.0  # s for the last sizes
# Two edges that die within this time, each with a device of a match, take sizes with them: those that one had
# not published, and the other had not claimed yet. The loss of an edge must first be noticed.
TOGETHER = 6.0  # s
JUST_SENT = 0.05  # s
CUT = (3.0, 20.0)  # s at most for which an edge is cut off


class PayloadWorld:
    """Pairs of devices (a and b, c and d, …) on three edges and two workers.

    With `kills`, edges and workers die, edges are cut off, and requests, answers and calls of the bucket are
    lost; without, match-engine is always reached at once.
    """

    def __init__(
        self, seed: int, *, kills: bool, devices: str = "abcd", bursts: Sequence[int] = (1, 3, 40, 200)
    ) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a schedule, no secret
        random.seed(seed)  # what the engine draws for its pauses
        self.kills = kills
        self.bursts = bursts  # payloads sent at once
        self.network = Network(self.chance)
        self.bucket = TimedBucket(self.chance)
        self.commits = CommitChecker(self.bucket)
        self.bucket.on_commit.append(self.commits.check)
        self.books = Books()
        self.edges = [Edge(self.network, f"e{number}", self.books) for number in range(3)]
        self.workers = [Worker(self.network, self.bucket, self.books) for _ in range(2)]
        self.devices = {
            name: SimulatedDevice(self, name, number // 2 * APART) for number, name in enumerate(devices)
        }
        # edges: when, and the devices that were on it at most `TOGETHER` before
        self.killed: list[tuple[float, set[str]]] = []

    def any_edge(self) -> Edge:
        return self.chance.choice([edge for edge in self.edges if edge.alive])

    def peer(self, device: SimulatedDevice) -> SimulatedDevice:
        names = list(self.devices)
        return self.devices[names[names.index(device.name) ^ 1]]

    # -- the schedule

    async def run(self, *, steps: int = 60, pause: float = 0.2, breaks: float = 0.25) -> None:
        """Run that many steps, up to `pause` seconds apart, of which a share `breaks` something; then let
        everything come to rest."""
        failed = asyncio.get_running_loop().create_future()

        def fail(_: object, context: dict[str, Any]) -> None:
            if not failed.done():
                failed.set_exception(context.get("exception") or AssertionError(context["message"]))

        asyncio.get_running_loop().set_exception_handler(fail)
        schedule = asyncio.ensure_future(self._schedule(steps, pause, breaks))
        await asyncio.wait({failed, schedule}, return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        await (failed if failed.done() and not failed.cancelled() else schedule)

    async def _schedule(self, steps: int, pause: float, breaks: float) -> None:
        self.network.loses_requests = self.bucket.failing = self.kills
        for process in (*self.workers, *self.edges):
            await process.start()
        for device in self.devices.values():
            device.connect()
        keeping = asyncio.ensure_future(self.books.keep())
        for _ in range(steps):
            await asyncio.sleep(self.chance.random() * pause)
            await self._step(breaks)
        self.network.trouble = self.bucket.failing = False
        for edge in self.edges:
            if not edge.alive:
                await edge.start()
        await self._rest()
        keeping.cancel()

    async def _rest(self) -> None:
        deadline = asyncio.get_running_loop().time() + REST
        while not all(device.settled for device in self.devices.values()):
            assert asyncio.get_running_loop().time() < deadline, "not everything is delivered"
            await asyncio.sleep(0.5)
        await asyncio.sleep(SETTLE)
        for device in self.devices.values():
            device.leave()
        await asyncio.sleep(2 * CLAIM_GRACE + 2 * ACK_TIMEOUT)

    async def _step(self, breaks: float) -> None:
        device = self.chance.choice(list(self.devices.values()))
        if self.chance.random() >= breaks:
            for _ in range(self.chance.choice(self.bursts)):
                device.send()
        elif not self.kills or self.chance.random() < 0.5:
            if device.socket is not None and device.wire.welcomed:  # before, it has no session to resume
                device.socket.drop()
        elif self.chance.random() < 0.2:
            self._cut_edge()
        elif self.chance.random() < 0.8:
            await self._break_edge()
        else:
            await self._replace_worker()

    async def _break_edge(self) -> None:
        edge = self.chance.choice(self.edges)
        devices = [device for device in self.devices.values() if device.socket in edge.sockets]
        if not edge.alive:
            await edge.start()
        elif sum(e.alive for e in self.edges) > 1 and all(device.wire.welcomed for device in devices):
            now = asyncio.get_running_loop().time()
            on_it = {d.name for d in self.devices.values() if now - d.seen_at.get(edge.name, -9e9) < TOGETHER}
            self.killed.append((now, on_it | {device.name for device in devices}))
            edge.kill()

    def _cut_edge(self) -> None:
        edge = self.any_edge()
        devices = [device for device in self.devices.values() if device.socket in edge.sockets]
        if any(each.bus.cut_for for each in self.edges) or not all(each.wire.welcomed for each in devices):
            return
        for device in devices:  # something is on its way, or not counted yet
            for _ in range(20):
                device.send()
        asyncio.get_running_loop().call_later(self.chance.random() * JUST_SENT, self._cut, edge)

    def _cut(self, edge: Edge) -> None:
        seconds = self.chance.random() * self.chance.choice(CUT)
        edge.bus.cut(seconds)

    async def _replace_worker(self) -> None:
        self.workers.pop(self.chance.randrange(len(self.workers))).kill()
        for worker in self.workers:
            worker.on_loss()
        self.workers.append(Worker(self.network, self.bucket, self.books))
        await self.workers[-1].start()

    # -- one edge, cut off

    async def run_cut(self, seconds: float) -> None:
        """Cut the edge of the first device off for a while, in the middle of a run in which nothing else
        breaks; every connection is kept."""
        edges = iter(self.edges)
        self.any_edge = lambda: next(edges)  # type: ignore[method-assign]
        asyncio.get_running_loop().call_later(2.0, lambda: self.edges[0].bus.cut(seconds))
        await self.run(steps=40, pause=0.5, breaks=0.0)

    # -- invariants, when everything has come to rest

    def check(self) -> None:
        """Every payload has arrived once, in order, is known to have, and was counted."""
        for name, device in self.devices.items():
            peer = self.peer(device)
            received, sent = device.received, peer.payloads
            assert received == sent, f"{name} has received {len(received)} of {len(sent)}"
            assert device.receipts == [payload for payload in device.sent if payload.receipt], name
            assert device.settled, f"{name} does not know what has arrived"
            assert device.wire.received == len(sent), name
            assert device.wire.delivered == len(device.payloads), name
        self._check_facts()

    def _check_facts(self) -> None:
        assert len(self.commits.ever_paired) == len(self.devices) // 2
        assert {fact.match for fact in self.books.matches.values()} == set(self.commits.ever_paired)
        assert not list(self.books.ledger.claims)
        for name, device in self.devices.items():
            sent = [len(data) for data in device.payloads]
            direction = device.wire.match or 0, name
            sizes = self.books.sizes[direction]
            assert all(sent[number] == size for number, size in sizes.items()), name
            missing = {*range(len(sent))} - sizes.keys()
            assert len(missing) == self.books.unaccounted(*direction), f"{name}: nobody misses {missing}"
            if not self._died_together(name, self.peer(device).name):
                assert not missing, f"{name}: the sizes of {missing} are lost"

    def _died_together(self, one: str, other: str) -> bool:
        """Whether the edges of both devices were killed at once, or nearly so."""
        return any(
            one in devices and other in others and abs(at - then) < TOGETHER
            for at, devices in self.killed
            for then, others in self.killed
        )
