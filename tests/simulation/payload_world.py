"""Devices, edges, workers, and what happens to them."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from simulation.bucket import CommitChecker, TimedBucket
from simulation.devices import SimulatedDevice
from simulation.network import Network
from simulation.processes import Edge, Facts, Worker

APART = 20.0  # degrees between two pairs: no device is in reach of another pair
REST = 60.0  # s after which everything must have been delivered
SETTLE = 2.0  # s for the last sizes


class PayloadWorld:
    """Pairs of devices (a and b, c and d, …) on three edges and two workers.

    With `kills`, edges and workers die, and requests, answers and calls of the bucket are lost; without,
    match-engine is always reached at once, and every size is counted.
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
        self.facts = Facts()
        self.edges = [Edge(self.network, f"e{number}", self.facts) for number in range(3)]
        self.workers = [Worker(self.network, self.bucket, self.facts) for _ in range(2)]
        self.devices = {
            name: SimulatedDevice(self, name, number // 2 * APART) for number, name in enumerate(devices)
        }
        self.killed = 0  # edges

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
        for _ in range(steps):
            await asyncio.sleep(self.chance.random() * pause)
            await self._step(breaks)
        self.network.trouble = self.bucket.failing = False
        for edge in self.edges:
            if not edge.alive:
                await edge.start()
        await self._rest()

    async def _rest(self) -> None:
        deadline = asyncio.get_running_loop().time() + REST
        while not all(device.settled for device in self.devices.values()):
            assert asyncio.get_running_loop().time() < deadline, "not everything is delivered"
            await asyncio.sleep(0.5)
        await asyncio.sleep(SETTLE)

    async def _step(self, breaks: float) -> None:
        device = self.chance.choice(list(self.devices.values()))
        if self.chance.random() >= breaks:
            for _ in range(self.chance.choice(self.bursts)):
                device.send()
        elif not self.kills or self.chance.random() < 0.5:
            if device.socket is not None and device.wire.welcomed:  # before, it has no session to resume
                device.socket.drop()
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
            self.killed += 1
            edge.kill()

    async def _replace_worker(self) -> None:
        self.workers.pop(self.chance.randrange(len(self.workers))).kill()
        for worker in self.workers:
            worker.on_loss()
        self.workers.append(Worker(self.network, self.bucket, self.facts))
        await self.workers[-1].start()

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
        counted = sum(self.facts.sizes.values())
        sizes = sum(len(data) for device in self.devices.values() for data in device.received)
        if self.killed:
            assert counted <= sizes
        else:
            assert counted == sizes
        assert len(self.commits.ever_paired) == len(self.devices) // 2
        assert {fact.match for fact in self.facts.matches.values()} == set(self.commits.ever_paired)
