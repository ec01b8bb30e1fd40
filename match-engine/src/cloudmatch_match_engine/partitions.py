"""Subscribe to the partitions that fall to this worker, as workers come and go."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

import msgspec
from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.connection import Bus, Handler, Headers, Subscription
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL, WORKER_ISOLATED_AFTER
from cloudmatch_bus.contract.messages import Heartbeat, decode_heartbeat, encode
from cloudmatch_bus.process.clock import now_us
from cloudmatch_match_engine.core.keys import DeviceId
from cloudmatch_match_engine.core.membership import Roll

log = logging.getLogger("partitions")

ROLE = "worker"
OVERLAP = 0.3  # s for which a partition is still served after it fell to another, who may not serve it yet
SETTLE = 1.2  # s a new worker listens for others before it takes partitions

_owned = Gauge("cloudmatch_match_engine_partitions", "Partitions that this worker serves")
_workers = Gauge("cloudmatch_match_engine_workers", "Workers that this worker believes alive")
_rebalances = Counter("cloudmatch_match_engine_rebalances", "Changes of the partitions of this worker")


def unique_name() -> str:
    """Name this process as no other is or was named."""
    return f"{socket.gethostname()}-{os.getpid()}-{now_us() % 10**9}"


class Partitions:
    """The partitions of one worker: `on_frames` hears frames, and those of the fallback; `on_request`
    pairing requests, `on_loss` that a worker has gone."""

    def __init__(
        self, bus: Bus, name: str, on_frames: Handler, on_request: Handler, on_loss: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._on_frames = on_frames
        self._on_request = on_request
        self._on_loss = on_loss
        self._clock = asyncio.get_running_loop().time
        self._roll = Roll(name, self._clock())
        self._echoed = self._clock()  # when we last heard ourselves
        self._name = name
        self._serving: dict[int, list[Subscription]] = {}
        # set when the workers believed alive have changed
        self._changed = asyncio.Event()
        self._workers: frozenset[str] = frozenset()
        self._mine: set[int] = set()

    def owns(self, device: DeviceId) -> bool:
        """Whether what is to be done unasked for a device falls to this worker."""
        return subjects.partition(*device) in self._mine

    @property
    def in_touch(self) -> bool:
        """Whether what is said on the bus is heard here: who hears nobody cannot tell who lives."""
        return self._bus.connected and self._clock() - self._echoed < WORKER_ISOLATED_AFTER

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; then say so, and serve on until the others have taken over."""
        fallback = await self._bus.subscribe(
            subjects.every_up_fallback(), self._on_frames, subjects.QUEUE_GROUP
        )
        beats = await self._bus.subscribe(subjects.every_heartbeat(ROLE), self._on_heartbeat)
        beating = asyncio.create_task(self._beat())
        balancing = asyncio.create_task(self._balance())
        try:
            await stop.wait()
        finally:
            beating.cancel()
            balancing.cancel()
        await self._bus.unsubscribe(beats)
        self._say(leaving=True)
        await asyncio.sleep(OVERLAP)
        serving = [subscription for each in self._serving.values() for subscription in each]
        await self._bus.drain(fallback, *serving)

    async def _serve(self, partition: int) -> None:
        self._serving[partition] = [
            await self._bus.subscribe(subjects.every_up_of(partition), self._on_frames, subjects.QUEUE_GROUP),
            await self._bus.subscribe(
                subjects.every_match_of(partition), self._on_request, subjects.QUEUE_GROUP
            ),
        ]

    def _say(self, *, leaving: bool) -> None:
        beat = Heartbeat(role=ROLE, name=self._name, leaving=leaving)
        self._bus.publish(subjects.heartbeat(ROLE, self._name), encode(beat))

    def _on_heartbeat(self, _: str, __: str, payload: bytes, ___: Headers) -> None:
        try:
            beat = decode_heartbeat(payload)
        except msgspec.DecodeError:
            return
        if beat.name == self._name:
            self._echoed = self._clock()
        if beat.leaving:
            self._roll.gone(beat.name)
        else:
            self._roll.heard(beat.name, self._clock())
        self._compare()

    def _compare(self) -> None:
        if self._roll.workers != self._workers:
            lost = self._workers - self._roll.workers
            self._workers = self._roll.workers
            if lost:
                self._on_loss()
            self._mine = self._roll.owned(subjects.PARTITIONS)
            _workers.set(len(self._workers))
            self._changed.set()

    async def _beat(self) -> None:
        while True:
            self._roll.beat(self._clock(), self._bus.connected)
            self._say(leaving=False)
            self._compare()
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def _balance(self) -> None:
        # Who comes first is alone: until it has listened for others it serves all requests, and the fallback.
        requests: Subscription | None = await self._bus.subscribe(
            subjects.every_match(), self._on_request, subjects.QUEUE_GROUP
        )
        await asyncio.sleep(SETTLE)
        while True:
            await self._changed.wait()
            self._changed.clear()
            mine = self._mine
            for partition in mine - self._serving.keys():
                await self._serve(partition)
            if requests is not None:
                await self._bus.drain(requests)
                requests = None
            lost = self._serving.keys() - mine
            if lost:
                await asyncio.sleep(OVERLAP)
                given_up = [self._serving.pop(partition) for partition in lost - self._mine]
                await self._bus.drain(*(subscription for each in given_up for subscription in each))
            _owned.set(len(self._serving))
            _rebalances.inc()
            log.info(
                "serves %d of %d partitions, %d workers",
                len(self._serving),
                subjects.PARTITIONS,
                len(self._workers),
            )
