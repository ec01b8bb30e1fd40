"""Work that no request asks for: probe edges, release devices of dead ones, end graces, replay events.

Each device falls to one worker.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Protocol

from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.bucket import ConflictError
from cloudmatch_bus.client.connection import Bus, Headers, NoRespondersError
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.claims import heartbeat_on
from cloudmatch_bus.contract.messages import DeviceRecord, Heartbeat, encode
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.summary import Summary
from cloudmatch_match_engine.core.heartbeat_log import HeartbeatLog
from cloudmatch_match_engine.core.keys import DeviceId, device_id
from cloudmatch_match_engine.core.pool import MirroredDevice
from cloudmatch_match_engine.core.presence import Presence
from cloudmatch_match_engine.core.replay import MatchEvent
from cloudmatch_match_engine.dropped import drop
from cloudmatch_match_engine.pairing.handler import PairingHandler
from cloudmatch_match_engine.pairing.mirror import Mirror

log = logging.getLogger("sweeps")

ROLE = "edge"
SWEEP_INTERVAL = 0.25  # s
PROBE_TIMEOUT = 1.0  # s
CONCURRENT_TASKS = 64

_dead = Gauge("cloudmatch_match_engine_dead_edges", "Dead edge processes that still have devices")
_released = Counter("cloudmatch_match_engine_released", "Devices of dead edges released")
_expired = Counter("cloudmatch_match_engine_expired", "Devices removed at the end of their grace")
_replayed = Counter("cloudmatch_match_engine_told_again", "Match events replayed because a worker was lost")


class Share(Protocol):
    """The worker's share of the work, as `Partitions` decides."""

    def owns(self, device: DeviceId) -> bool:
        """Whether unasked work for a device falls to this worker."""

    @property
    def isolated(self) -> bool:
        """Whether this worker is cut off from the bus."""


class Sweeps:
    """The unasked work of one worker."""

    def __init__(self, bus: Bus, mirror: Mirror, handler: PairingHandler, share: Share) -> None:
        self._bus = bus
        self._mirror = mirror
        self._roster = mirror.roster
        self._handler = handler
        self._share = share
        self._now = asyncio.get_running_loop().time
        self.presence = Presence(self._now())
        self.heartbeats = HeartbeatLog()
        self._unfinished = Summary(log, "sweeps not finished")
        self._slots = asyncio.Semaphore(CONCURRENT_TASKS)
        # what is in progress, or waits for a slot
        self._pending: set[Hashable] = set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        heartbeats = await self._bus.subscribe(subjects.every_heartbeat(ROLE), self._on_heartbeat)
        try:
            while True:
                self._sweep()
                await asyncio.sleep(SWEEP_INTERVAL)
        finally:
            await self._bus.unsubscribe(heartbeats)

    def _on_heartbeat(self, subject: str, _: str, payload: bytes, __: Headers) -> None:
        try:
            heartbeat = heartbeat_on(subject, payload)
        except UNREADABLE as error:
            drop(subject, error)
            return
        self.heartbeats.record(heartbeat, self._now())
        if heartbeat.leaving:
            self.presence.on_leave(heartbeat.name, heartbeat.incarnation)
        elif above := self.presence.on_heartbeat(heartbeat.name, heartbeat.incarnation, self._now()):
            self._bus.publish(
                subjects.probe(heartbeat.name),
                encode(Heartbeat(role=ROLE, name=heartbeat.name, incarnation=above)),
            )

    def _sweep(self) -> None:
        isolated = self._share.isolated
        # A process without an incarnation neither sends heartbeats nor answers probes.
        edges = {process.edge for process in self._roster.edge_processes() if process.incarnation}
        for edge in self.presence.check(edges, self._now(), connected=not isolated):
            self._bus.spawn(self._probe(edge))
        if not isolated:
            self._sweep_dead_edges()
            self._sweep_graces()
            self._sweep_events()

    def _sweep_dead_edges(self) -> None:
        dead = [process for process in self._roster.edge_processes() if self.presence.is_dead(*process)]
        _dead.set(len(dead))
        for process in dead:
            for mirrored in self._roster.connected_to(process):
                self._start(mirrored.record, self._edge_is_dead, self._release)

    def _sweep_graces(self) -> None:
        for mirrored in self._roster.disconnected():
            if self._grace_is_over(mirrored.record):
                self._start(mirrored.record, self._grace_is_over, self._expire)

    def _sweep_events(self) -> None:
        for event in self._mirror.due():
            if self._share.owns(device_id(event.app, event.device)):
                self._spawn(event, partial(self._replay, event))

    def _start(
        self,
        record: DeviceRecord,
        due: Callable[[DeviceRecord], bool],
        act: Callable[[MirroredDevice], Awaitable[None]],
    ) -> None:
        device = device_id(record.app, record.device)

        async def act_if_still_due() -> None:
            mirrored = self._roster.get(device)
            if mirrored is not None and due(mirrored.record):
                await act(mirrored)

        if self._share.owns(device):
            self._spawn(device, act_if_still_due)

    def _spawn(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        if key not in self._pending:
            self._pending.add(key)
            self._bus.spawn(self._run_in_slot(key, work))

    async def _run_in_slot(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        async with self._slots:
            try:
                await work()
            except ConflictError:  # the device has returned, or another worker was faster
                log.debug("%s has changed", key)
            except TimeoutError as error:  # the next sweep finds it again
                self._unfinished.add(f"{key}: {error}")
            finally:
                self._pending.discard(key)

    async def _release(self, mirrored: MirroredDevice) -> None:
        await self._handler.release(mirrored, self._edge_is_dead)
        _released.inc()

    async def _expire(self, mirrored: MirroredDevice) -> None:
        await self._handler.expire(mirrored)
        _expired.inc()

    async def _replay(self, event: MatchEvent) -> None:
        await self._handler.replay(event)
        _replayed.inc()

    async def _probe(self, edge: str) -> None:
        try:
            answer = await self._bus.probe(subjects.probe(edge), PROBE_TIMEOUT)
            heartbeat = heartbeat_on(subjects.heartbeat(ROLE, edge), answer)
        except NoRespondersError:
            self.presence.on_no_responders(edge)
        except (TimeoutError, *UNREADABLE):
            log.info("edge %s does not answer", edge)
        else:
            self.presence.on_heartbeat(heartbeat.name, heartbeat.incarnation, self._now())
        finally:
            self.presence.on_probe_done(edge)

    def _edge_is_dead(self, record: DeviceRecord) -> bool:
        return self.presence.is_dead(record.edge, record.incarnation)

    def _grace_is_over(self, record: DeviceRecord) -> bool:
        return self._mirror.absent_for(record) > record.grace
