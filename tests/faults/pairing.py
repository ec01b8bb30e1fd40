"""Devices arrive in bursts while workers and NATS are killed: each with a possible peer in reach is matched.

The edges have no sockets (`harness.edges`): this tests pairing only.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from cloudmatch_bus.client.bucket import BucketWatcher, Entry
from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.follower import Delivery, Follower
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract.messages import DevicePaired, DeviceRecord, MatchEnded, MatchMade, decode_device
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.keys import parse_device
from cloudmatch_match_engine.core.roster import Roster
from faults.stack import PAIRING
from harness import NatsCluster, Service, eventually, nats_cluster, service
from harness.edges import Device, FakeEdge, fake_edge

EDGES, WORKERS = 3, 3
BURSTS = 10
SPOTS = 40  # locations where devices meet
SETTLE_DEADLINE = 90.0  # s after the last arrival
Progress = Callable[[str], None]


@dataclass
class Verdict:
    """Counts of violations; all 0: valid."""

    stuck: int = 0  # waiting devices with a waiting device in reach
    double: int = 0  # matches with other than two devices, or two facts
    asymmetric: int = 0  # devices in a match that their peer is not in
    ghosts: int = 0  # in the pool but not connected, or the reverse
    unaware: int = 0  # connections whose edge disagrees with the pool
    unpublished: int = 0  # made or ended matches without a fact

    @property
    def valid(self) -> bool:
        return not any(vars(self).values())


@dataclass
class Report:
    """The result of one seed."""

    seed: int
    devices: int
    faults: list[str] = field(default_factory=list)
    matches: int = 0  # made, in total
    repeated: int = 0  # requests that were not answered
    seconds: float = 0.0
    paired: float = 0.0  # s after the last arrival until the pool was valid and all edges agreed
    settled: float = 0.0  # the same, and all facts were published
    verdict: Verdict = field(default_factory=Verdict)


class PairingCluster:
    """The processes under test, and what is observed: a mirror of the bucket, all facts about matches."""

    def __init__(self, cluster: NatsCluster, edges: list[FakeEdge], workers: list[Service], bus: Bus) -> None:
        self.cluster = cluster
        self.edges = edges
        self.workers = workers
        self.roster = Roster()
        self.made: Counter[tuple[str, int]] = Counter()
        self.ended: Counter[tuple[str, int]] = Counter()
        self.watch = BucketWatcher(bus, self._on_entry, self.roster.restart, self.roster.complete)

    def _on_entry(self, entry: Entry) -> None:
        if (device := parse_device(entry.key)) is not None:
            record = None if entry.value is None else decode_device(entry.value)
            self.roster.put(device, record, entry.revision)

    async def on_facts(self, deliveries: list[Delivery]) -> None:
        """Count the facts about matches."""
        for delivery in deliveries:
            match delivery.fact:
                case MatchMade() as fact:
                    self.made[fact.app, fact.match] += 1
                case MatchEnded() as fact:
                    self.ended[fact.app, fact.match] += 1

    def check(self, app: str, connected: dict[str, Device]) -> Verdict:
        """Compare the pool, the edges and the facts."""
        verdict = Verdict()
        everyone = (known.record for known in self.roster.everyone())
        records = {record.device: record for record in everyone if record.app == app}
        members: Counter[int] = Counter()
        for name, record in records.items():
            if record.match is None:
                near = self.roster.waiting(app, record.tag).near(record)
                verdict.stuck += any(matcher.suits(record, other.record) for other in near)
                continue
            members[record.match] += 1
            peer = records.get(record.peer or "")
            verdict.asymmetric += peer is None or (peer.match, peer.peer) != (record.match, name)
        made = {match: count for (of, match), count in self.made.items() if of == app}
        ended = {match: count for (of, match), count in self.ended.items() if of == app}
        notified = {
            answer.match
            for device in connected.values()
            for answer in device.history
            if isinstance(answer, DevicePaired)
        }
        verdict.double += sum(count != 2 for count in members.values())
        verdict.double += sum(count > 1 for facts in (made, ended) for count in facts.values())
        verdict.ghosts += len(records.keys() ^ connected.keys())
        verdict.unaware += sum(not self._agree(records.get(n), device) for n, device in connected.items())
        verdict.unpublished += len((notified | members.keys()) - made.keys())
        verdict.unpublished += len((made.keys() - members.keys()) ^ ended.keys())
        return verdict

    @staticmethod
    def _agree(record: DeviceRecord | None, device: Device) -> bool:
        return record is not None and (record.match, record.peer) == (device.match, device.peer)


@contextlib.asynccontextmanager
async def pairing_cluster() -> AsyncIterator[PairingCluster]:
    """Run three NATS nodes, three workers and three edges without sockets."""
    with contextlib.ExitStack() as servers:
        cluster = await asyncio.to_thread(servers.enter_context, nats_cluster())
        settings = {"CLOUDMATCH_NATS_URL": cluster.url, "CLOUDMATCH_NATS_REPLICAS": "3"}
        workers = [
            await asyncio.to_thread(servers.enter_context, service("match-engine", settings, deadline=40))
            for _ in range(WORKERS)
        ]
        async with contextlib.AsyncExitStack() as edges:
            made = [
                await edges.enter_async_context(fake_edge(cluster.url, f"edge-{i}")) for i in range(EDGES)
            ]
            bus = await connect(NatsSettings(url=cluster.url, replicas=3), "observer")
            edges.push_async_callback(bus.close)
            under_test = PairingCluster(cluster, made, workers, bus)
            done = asyncio.Event()
            observing = [
                asyncio.create_task(under_test.watch.run()),
                asyncio.create_task(Follower(bus).run(under_test.on_facts, 0, done)),
            ]
            await asyncio.wait_for(under_test.watch.synced.wait(), 20)
            try:
                yield under_test
            finally:
                done.set()
                for task in observing:
                    task.cancel()
                await asyncio.gather(*observing, return_exceptions=True)


class Trial:
    """One seed: which devices arrive when and where, what they do, and what fails meanwhile."""

    def __init__(
        self, under_test: PairingCluster, seed: int, devices: int, faults: int, on_fault: Progress
    ) -> None:
        self._under_test = under_test
        self._chance = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self._app = f"trial-{seed}"
        self._faults = faults
        self._on_fault = on_fault
        self._connected: dict[str, Device] = {}
        self.report = Report(seed, devices)

    async def run(self) -> Report:
        """Run the trial and check its result."""
        report, under_test = self.report, self._under_test
        began, repeated = time.monotonic(), sum(edge.repeated for edge in under_test.edges)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inject_faults())
            for burst in range(BURSTS):
                for number in range(burst, report.devices, BURSTS):
                    group.create_task(self._live(f"d{number}"))
                await asyncio.sleep(self._chance.uniform(0.2, 1.0))
        arrived = time.monotonic()
        with contextlib.suppress(AssertionError):
            await eventually(lambda: replace(self._check(), unpublished=0).valid, SETTLE_DEADLINE)
            report.paired = time.monotonic() - arrived
            await eventually(lambda: self._check().valid, SETTLE_DEADLINE)
        report.settled = time.monotonic() - arrived
        report.verdict = self._check()
        report.matches = sum(app == self._app for app, _ in under_test.made)
        report.repeated = sum(edge.repeated for edge in under_test.edges) - repeated
        report.seconds = time.monotonic() - began
        for device in list(self._connected.values()):
            await self._edge_of(device).leave(device)
        return report

    def _check(self) -> Verdict:
        return self._under_test.check(self._app, self._connected)

    def _edge_of(self, device: Device) -> FakeEdge:
        return next(edge for edge in self._under_test.edges if edge.name == device.request.edge)

    async def _live(self, name: str) -> None:
        """Connect a device; some then leave, leave their match, move, or drop and return."""
        chance = self._chance
        edge = chance.choice(self._under_test.edges)
        spot = chance.randrange(SPOTS)
        lat, lon = 50 + spot // 8 * 0.1 + chance.uniform(0, 1e-3), 8 + spot % 8 * 0.1
        tag = chance.choice((None, None, "red"))
        session = {"grace": 60.0, "token": name} if chance.random() < 0.4 else {}
        radius = chance.choice((80.0, 300.0))
        more = {"app": self._app, "radius": radius, "tag": tag, **session}
        fate = chance.random()
        device = self._connected[name] = edge.join(name, lat, lon, **more)
        await edge.seek(device)
        await asyncio.sleep(chance.uniform(0, 3))
        if fate < 0.1:
            del self._connected[name]
            await edge.leave(device)
        elif fate < 0.2 and session:
            other = chance.choice(self._under_test.edges)
            del self._connected[name]
            await edge.drop(device)
            device = self._connected[name] = other.join(name, lat, lon, resume=True, **more)
            await other.seek(device)
        elif fate < 0.3 and device.match is not None:
            await edge.unmatch(device)
        elif fate < 0.4:
            await edge.move(device, lat + 1e-3, lon)

    async def _inject_faults(self) -> None:
        kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("worker killed", self._kill_worker),
            ("NATS leader killed", self._kill_leader),
        ]
        for number in range(self._faults):
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
            name, happen = kinds[number % 2]
            self.report.faults.append(name)
            self._on_fault(name)
            await happen()

    async def _kill_worker(self) -> None:
        worker = self._chance.choice(self._under_test.workers)
        worker.kill()
        await asyncio.sleep(self._chance.uniform(0.2, 3))
        await asyncio.to_thread(worker.restart, deadline=40)

    async def _kill_leader(self) -> None:
        cluster = self._under_test.cluster
        node = await asyncio.to_thread(cluster.leader, PAIRING) or self._chance.choice(cluster.servers)
        node.kill()
        await asyncio.sleep(self._chance.uniform(0.2, 2))
        await asyncio.to_thread(node.restart)
        await asyncio.to_thread(cluster.wait_healthy, 60)
