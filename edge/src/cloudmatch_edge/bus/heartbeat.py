"""Heartbeats that show match-engine that this edge is alive; detects when it was frozen or cut off."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import EDGE_ISOLATED_AFTER, HEARTBEAT_INTERVAL, STALLED_AFTER
from cloudmatch_bus.contract.messages import Heartbeat, decode_heartbeat, encode
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.clock import now_us
from cloudmatch_bus.process.vitals import CpuLoad, version_of

log = logging.getLogger("heartbeat")

ROLE = "edge"
VERSION = version_of("cloudmatch-edge")


class HeartbeatLoop:
    """The heartbeat of an edge.

    Args:
        on_stall: called after the process was frozen or cut off, or had to take another incarnation.
        devices: how many are connected to this edge.
        max_devices: that this edge accepts; 0: unlimited.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        on_stall: Callable[[], Awaitable[None]],
        devices: Callable[[], int],
        max_devices: int,
    ) -> None:
        self.incarnation = now_us()
        self._bus = bus
        self._name = name
        self._on_stall = on_stall
        self._devices = devices
        self._max_devices = max_devices
        self._draining = False
        self._load = CpuLoad()
        self._loop = asyncio.get_running_loop()
        self._echoed_at = self._loop.time()  # when our own heartbeat last came back

    async def run(self) -> None:
        """Publish heartbeats and answer probes until cancelled."""
        await self._bus.subscribe(subjects.probe(self._name), self._on_probe)
        await self._bus.subscribe(subjects.heartbeat(ROLE, self._name), self._on_echo)
        last = self._loop.time()
        while True:
            now = self._loop.time()
            if now - last > STALLED_AFTER:
                self._bus.spawn(self._on_stall())
            last = now
            self._load.measure()
            self.publish()
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    def drain(self) -> None:
        """Announce at once that the edge accepts nothing new."""
        self._draining = True
        self.publish()

    def publish(self, *, leaving: bool = False) -> None:
        """Publish one heartbeat: the edge is alive, or about to end."""
        self._bus.publish(subjects.heartbeat(ROLE, self._name), self._encoded(leaving=leaving))

    def _on_echo(self, *_: object) -> None:
        now = self._loop.time()
        if now - self._echoed_at > EDGE_ISOLATED_AFTER:
            self._bus.spawn(self._on_stall())
        self._echoed_at = now

    def _on_probe(self, _: str, reply: str, payload: bytes, __: Headers) -> None:
        if reply:
            self._bus.publish(reply, self._encoded(leaving=False))
            return
        with contextlib.suppress(*UNREADABLE):  # a probe is empty
            self._rise_above(decode_heartbeat(payload).incarnation)

    def _rise_above(self, incarnation: int) -> None:
        """Become later than a dead process of this name: the clock was set back before this one began."""
        if incarnation >= self.incarnation:
            log.warning("the clock was behind at the start: incarnation is now above %d", incarnation)
            self.incarnation = incarnation + 1
            self.publish()
            self._bus.spawn(self._on_stall())

    def _encoded(self, *, leaving: bool) -> bytes:
        return encode(
            Heartbeat(
                role=ROLE,
                name=self._name,
                leaving=leaving,
                incarnation=self.incarnation,
                version=VERSION,
                draining=self._draining,
                devices=self._devices(),
                max_devices=self._max_devices,
                load=self._load.share,
            )
        )
