"""Subscribe to the partitions that fall to this worker, as workers join and leave."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.connection import ANONYMOUS, Bus, Handler, Headers, Subscription
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.claims import heartbeat_on
from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL, WORKER_ISOLATED_AFTER
from cloudmatch_bus.contract.messages import Heartbeat, encode
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.clock import now_us
from cloudmatch_bus.process.vitals import CpuLoad, version_of
from cloudmatch_match_engine.core.heartbeat_log import HeartbeatLog
from cloudmatch_match_engine.core.keys import DeviceId
from cloudmatch_match_engine.core.membership import Membership
from cloudmatch_match_engine.dropped import drop

log = logging.getLogger("partitions")

ROLE = "worker"
VERSION = version_of("cloudmatch-match-engine")
OVERLAP = 0.3  # s for which a lost partition is still served: its new owner may not have subscribed yet
JOIN_DELAY = 1.2  # s for which a new worker collects heartbeats of others before it takes partitions

_partitions = Gauge("cloudmatch_match_engine_partitions", "Partitions that this worker serves")
_workers = Gauge("cloudmatch_match_engine_workers", "Workers that this worker counts as alive")
_rebalances = Counter("cloudmatch_match_engine_rebalances", "Changes of the partitions of this worker")


def unique_name(bus: Bus) -> str:
    """Make a name for this process that no other process ever has, from that in its credentials."""
    known = socket.gethostname() if bus.name == ANONYMOUS else subjects.untoken(bus.name)
    return f"{known}/{os.getpid()}-{now_us() % 10**9}"


class Partitions:
    """The partitions of one worker.

    `on_batch` gets the batches of these partitions and of the fallback, `on_request` the pairing requests;
    `on_loss` is called when another worker is lost; `devices` counts those in this worker's mirror.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        on_batch: Handler,
        on_request: Handler,
        on_loss: Callable[[], None],
        devices: Callable[[], int],
    ) -> None:
        self._bus = bus
        self._on_batch = on_batch
        self._on_request = on_request
        self._on_loss = on_loss
        self._devices = devices
        self._incarnation = now_us()
        self._load = CpuLoad()
        self._clock = asyncio.get_running_loop().time
        self.membership = Membership(name, self._clock())
        self.heartbeats = HeartbeatLog()
        self._last_echo = self._clock()  # when our own heartbeat last came back
        self._name = name
        # partition → its subscriptions
        self._serving: dict[int, list[Subscription]] = {}
        # set when the membership has changed
        self._changed = asyncio.Event()
        self._workers: frozenset[str] = frozenset()
        self._owned: set[int] = set()

    def owns(self, device: DeviceId) -> bool:
        """Whether unasked work for a device falls to this worker."""
        return subjects.partition(*device) in self._owned

    @property
    def isolated(self) -> bool:
        """Whether this worker is cut off from the bus, and so cannot judge which others are alive."""
        return not self._bus.connected or self._clock() - self._last_echo >= WORKER_ISOLATED_AFTER

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; then announce it, and serve until the others have taken over."""
        fallback = await self._share_up(subjects.FALLBACK)
        heartbeats = await self._bus.subscribe(subjects.every_heartbeat(ROLE), self._on_heartbeat)
        tasks = [asyncio.create_task(self._send_heartbeats()), asyncio.create_task(self._rebalance())]
        try:
            await stop.wait()
        finally:
            for task in tasks:
                task.cancel()
        await self._bus.unsubscribe(heartbeats)
        self._publish_heartbeat(leaving=True)
        await asyncio.sleep(OVERLAP)
        serving = [subscription for each in self._serving.values() for subscription in each]
        await self._bus.drain(*fallback, *serving)

    def _publish_heartbeat(self, *, leaving: bool) -> None:
        heartbeat = Heartbeat(
            role=ROLE,
            name=self._name,
            leaving=leaving,
            incarnation=self._incarnation,
            version=VERSION,
            devices=self._devices(),
            partitions=len(self._serving),
            load=self._load.measure(),
        )
        self._bus.publish(subjects.heartbeat(ROLE, self._name), encode(heartbeat))

    def _on_heartbeat(self, subject: str, _: str, payload: bytes, __: Headers) -> None:
        try:
            heartbeat = heartbeat_on(subject, payload)
        except UNREADABLE as error:
            drop(subject, error)
            return
        self.heartbeats.record(heartbeat, self._clock())
        if heartbeat.name == self._name:
            self._last_echo = self._clock()
        if heartbeat.leaving:
            self.membership.on_leave(heartbeat.name)
        else:
            self.membership.on_heartbeat(heartbeat.name, self._clock())
        self._on_membership()

    def _on_membership(self) -> None:
        workers = self.membership.workers
        if workers == self._workers:
            return
        lost, self._workers = self._workers - workers, workers
        if lost:
            self._on_loss()
        self._owned = self.membership.owned(subjects.PARTITIONS)
        _workers.set(len(workers))
        self._changed.set()

    async def _send_heartbeats(self) -> None:
        while True:
            self.membership.check(self._clock(), self._bus.connected)
            self._publish_heartbeat(leaving=False)
            self._on_membership()
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def _rebalance(self) -> None:
        # A first worker is alone: while it waits for others it serves all requests, and the fallback.
        everything = await self._share(subjects.every_match(), self._on_request)
        await asyncio.sleep(JOIN_DELAY)
        await self._changed.wait()
        await self._take_partitions()
        await self._bus.drain(everything)
        while True:
            await self._drop_partitions()
            self._report()
            await self._changed.wait()
            await self._take_partitions()

    async def _take_partitions(self) -> None:
        self._changed.clear()
        for partition in self._owned - self._serving.keys():
            self._serving[partition] = [
                *await self._share_up(partition),
                await self._share(subjects.every_match_of(partition), self._on_request),
                await self._share(subjects.every_match_batch_of(partition), self._on_request),
            ]

    async def _share_up(self, partition: int | str) -> list[Subscription]:
        """Subscribe to batches of a partition, those of edges of earlier versions included."""
        every = subjects.every_up_of(partition), subjects.every_earlier_up_of(partition)
        return [await self._share(subject, self._on_batch) for subject in every]

    async def _share(self, subject: str, handler: Handler) -> Subscription:
        """Subscribe in the queue group: each message goes to one worker."""
        return await self._bus.subscribe(subject, handler, subjects.QUEUE_GROUP)

    async def _drop_partitions(self) -> None:
        lost = self._serving.keys() - self._owned
        if lost:
            await asyncio.sleep(OVERLAP)
            dropped = [self._serving.pop(partition) for partition in lost - self._owned]
            await self._bus.drain(*(subscription for each in dropped for subscription in each))

    def _report(self) -> None:
        serving = len(self._serving)
        _partitions.set(serving)
        _rebalances.inc()
        log.info("serving %d/%d partitions, %d workers", serving, subjects.PARTITIONS, len(self._workers))
