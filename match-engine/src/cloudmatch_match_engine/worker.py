"""A worker: answers pairing requests and routes batches. All workers share the work in one queue group."""

import asyncio
import logging

from prometheus_client import Gauge

from cloudmatch_bus.client.bucket import Bucket, BucketWatcher
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.micro import micro_service
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    DeviceRecord,
    Tombstone,
    encode,
)
from cloudmatch_bus.process.clock import monotonic, now_ms
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.runner import until_stopped
from cloudmatch_match_engine.core.cluster import Cluster
from cloudmatch_match_engine.core.distances import Told
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.inspection import Inspection
from cloudmatch_match_engine.pairing.handler import PairingHandler
from cloudmatch_match_engine.pairing.mirror import Mirror
from cloudmatch_match_engine.partitions import Partitions, unique_name
from cloudmatch_match_engine.requests import Requests
from cloudmatch_match_engine.routing import BatchRouter
from cloudmatch_match_engine.sweeps import Sweeps

log = logging.getLogger("worker")

DESCRIPTION = "matches devices; explains why one is not matched; lists edges and workers"
DRAIN_TIMEOUT = 2.0  # s for requests that have arrived to be begun

_waiting = Gauge("cloudmatch_match_engine_waiting", "Waiting devices in this worker's mirror")
_devices = Gauge("cloudmatch_match_engine_devices", "Devices in this worker's mirror")


class BusNotifier:
    """Publishes what pairing decides: states to edges, facts to the stream EVENTS."""

    def __init__(self, bus: Bus, facts: FactPublisher) -> None:
        self._bus = bus
        self._facts = facts

    def notify(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        """Send the edge that holds a device its new state."""
        self._bus.publish(subjects.ctl(record.app, record.edge, record.device), encode(answer))

    def publish(self, fact: AnyFact, key: str) -> None:
        """Publish a fact; facts with equal `key` count once, whichever workers publish them."""
        self._facts.publish(fact, key)


class Worker:
    """The shell: turns messages into calls of the engine, and its decisions into messages."""

    def __init__(self, bus: Bus, reach: float, distance: Told = "rounded") -> None:
        self._bus = bus
        self._roster = Roster(reach)
        self._mirror = Mirror(self._roster, monotonic)
        _devices.set_function(lambda: len(self._roster))
        _waiting.set_function(self._roster.count_waiting)
        self._facts = FactPublisher(bus)
        notifier = BusNotifier(bus, self._facts)
        self._handler = PairingHandler(
            Bucket(bus), self._mirror, notifier, clock=now_ms, reach=reach, distance=distance
        )
        self._router = BatchRouter(bus, self._roster, self._handler)
        self._watcher = BucketWatcher(bus, self._mirror.on_entry, self._roster.restart, self._on_ready)
        clock = asyncio.get_running_loop().time
        self.inspection = Inspection(self._roster, self._watcher.health, reach, clock, distance)
        self._requests = Requests(bus, self._handler.answer)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then finish the requests in progress."""
        tasks = [asyncio.create_task(self._watcher.run()), asyncio.create_task(self._facts.run())]
        try:
            # Requests are accepted only once the mirror shows the whole pool.
            await until_stopped(stop, self._watcher.synced.wait())
            partitions = Partitions(
                self._bus,
                unique_name(self._bus),
                self._router.on_batch,
                self._requests.on_request,
                self._mirror.schedule_replay,
                lambda: len(self._roster),
            )
            self._mirror.schedule_replay()
            sweeps = Sweeps(self._bus, self._mirror, self._handler, partitions)
            tasks.append(asyncio.create_task(sweeps.run()))
            cluster = Cluster(
                self._roster,
                sweeps.presence,
                partitions.membership,
                edges=sweeps.heartbeats,
                workers=partitions.heartbeats,
            )
            self.inspection.join(cluster, lambda: partitions.isolated)
            async with micro_service(self._bus, "match-engine", DESCRIPTION, *self.inspection.endpoints()):
                await partitions.run(stop)
            await self._requests.drain(DRAIN_TIMEOUT)
            await self._bus.wait_for_tasks()
            await self._facts.drain()
        finally:
            for task in tasks:
                task.cancel()

    def add_checks(self, health: Health) -> None:
        """Add the checks of this worker."""
        health.set_check("bucket", self._watcher.health)
        health.set_warning("facts", self._facts.problem)

    def _on_ready(self) -> None:
        self._roster.complete()
        log.info("mirror ready: %d devices, %d waiting", len(self._roster), self._roster.count_waiting())
