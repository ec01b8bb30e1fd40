"""Tell match-engine that this edge lives; notice when it did not."""

import asyncio
from collections.abc import Awaitable, Callable

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import EDGE_ISOLATED_AFTER, HEARTBEAT_INTERVAL, STALLED_AFTER
from cloudmatch_bus.contract.messages import Heartbeat, encode
from cloudmatch_bus.process.clock import now_us

ROLE = "edge"


class Pulse:
    """The heartbeat of an edge. `on_stall` is called when the process was frozen or cut off."""

    def __init__(self, bus: Bus, name: str, on_stall: Callable[[], Awaitable[None]]) -> None:
        self.incarnation = now_us()
        self._bus = bus
        self._name = name
        self._on_stall = on_stall
        self._clock = asyncio.get_running_loop().time
        self._echoed = self._clock()  # when we last heard ourselves

    async def run(self) -> None:
        """Beat until cancelled."""
        await self._bus.subscribe(subjects.probe(self._name), self._on_probe)
        await self._bus.subscribe(subjects.heartbeat(ROLE, self._name), self._on_echo)
        last = self._clock()
        while True:
            now = self._clock()
            if now - last > STALLED_AFTER:
                self._bus.spawn(self._on_stall())
            last = now
            self.beat()
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    def beat(self, *, leaving: bool = False) -> None:
        """Say once that the edge lives, or that it is about to end."""
        self._bus.publish(subjects.heartbeat(ROLE, self._name), self._word(leaving=leaving))

    def _on_echo(self, *_: object) -> None:
        now = self._clock()
        if now - self._echoed > EDGE_ISOLATED_AFTER:
            self._bus.spawn(self._on_stall())
        self._echoed = now

    def _on_probe(self, _: str, reply: str, __: bytes, ___: Headers) -> None:
        if reply:
            self._bus.publish(reply, self._word(leaving=False))

    def _word(self, *, leaving: bool) -> bytes:
        return encode(Heartbeat(role=ROLE, name=self._name, leaving=leaving, incarnation=self.incarnation))
