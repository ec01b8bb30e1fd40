"""Edges without sockets: what match-engine sees of an edge, and devices that wait for peers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from msgspec.structs import replace

from cloudmatch_bus.client.connection import Bus, Headers, connect
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.cells import cell
from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    Heartbeat,
    LeaveMatch,
    LeavePool,
    SeekPartner,
    StepAway,
    decode_answer,
    encode,
)
from harness.device_view import DeviceView

REQUEST_TIMEOUT = 2.0  # s
RETRY_DELAY = 0.05  # s


class Device(DeviceView):
    """A connected device, as its edge knows it."""

    def __init__(self, request: SeekPartner) -> None:
        super().__init__()
        self.request = request
        self.paired_at = 0.0  # s, monotonic: when it was last notified of a new match
        self.history: list[AnyAnswer] = []
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        return self.request.device

    def on_answer(self, answer: AnyAnswer) -> None:
        """Update the state, and keep the answer."""
        before = self.version
        super().on_answer(answer)
        self.history.append(answer)
        if self.version != before and self.match is not None:
            self.paired_at = time.monotonic()
        self._changed.set()

    async def until(self, condition: Callable[["Device"], bool], deadline: float = 10) -> None:
        """Return once a condition holds of the device.

        Raises:
            AssertionError: it does not within `deadline` seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while not condition(self):
                    self._changed.clear()
                    await self._changed.wait()
        assert condition(self), f"last answers about {self.name}: {self.history[-5:]}"


class FakeEdge:
    """An edge on a connection of its own. Made by `fake_edge`."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.bus = bus
        self.name = name
        self.incarnation = time.time_ns() // 1000
        self.frozen = False
        # `ctl` subject → device
        self.devices: dict[str, Device] = {}
        self.repeated = 0  # requests that were not answered
        self._last_connection_id = self.incarnation
        self._heartbeats: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, and start sending heartbeats."""
        await self.bus.subscribe(subjects.every_ctl(self.name), self._on_answer)
        await self.bus.subscribe(subjects.probe(self.name), self._on_probe)
        self.bus.on_reconnect.append(self.announce)
        self._heartbeats = asyncio.create_task(self._send_heartbeats())

    async def end(self, *, leaving: bool = False) -> None:
        """End at once, as if killed; or announce it."""
        assert self._heartbeats is not None
        self._heartbeats.cancel()
        if leaving:
            self._publish_heartbeat(leaving=True)
        await self.bus.close()

    async def connect(
        self, device: str, lat: float = 0, lon: float = 0, app: str = "demo", **more: Any
    ) -> Device:
        """Connect a device; return once match-engine has answered."""
        joined = self.join(device, lat, lon, app, **more)
        await self.seek(joined)
        return joined

    def join(self, device: str, lat: float = 0, lon: float = 0, app: str = "demo", **more: Any) -> Device:
        """Connect a device that does not seek yet."""
        self._last_connection_id = max(self._last_connection_id + 1, time.time_ns() // 1000)
        request = SeekPartner(
            app=app,
            device=device,
            edge=self.name,
            connection_id=self._last_connection_id,
            lat=lat,
            lon=lon,
            incarnation=self.incarnation,
            **more,
        )
        joined = self.devices[subjects.ctl(app, self.name, device)] = Device(request)
        return joined

    async def seek(self, device: Device) -> None:
        """Request a peer for a device, or its state."""
        device.on_answer(await self.ask(device, device.request))

    async def move(self, device: Device, lat: float, lon: float) -> None:
        """Move a device."""
        device.request = replace(
            device.request, lat=lat, lon=lon, location_version=device.request.location_version + 1
        )
        await self.seek(device)

    async def drop(self, device: Device) -> AnyAnswer:
        """End a device's connection."""
        self._forget(device)
        return await self.ask(device, StepAway(**self._of(device)))

    async def leave(self, device: Device, reason: str = "left") -> AnyAnswer:
        """Remove a device for good, or because it was replaced."""
        self._forget(device)
        request = LeavePool(**self._of(device), match=device.match, peer=device.peer, reason=reason)
        return await self.ask(device, request)

    async def unmatch(self, device: Device, *, silent: bool = False) -> None:
        """Take a device out of its match."""
        assert device.match is not None
        request = LeaveMatch(**self._of(device), match=device.match, silent=silent)
        device.on_answer(await self.ask(device, request))

    async def announce(self) -> None:
        """Seek again for all devices."""
        await asyncio.gather(*(self.seek(device) for device in list(self.devices.values())))

    async def ask(self, device: Device, request: AnyRequest) -> AnyAnswer:
        """Send match-engine a request until it is answered."""
        at = device.request
        subject = subjects.match(at.app, cell(at.lat, at.lon), at.device)
        while True:
            try:
                return decode_answer(await self.bus.request(subject, encode(request), REQUEST_TIMEOUT))
            except TimeoutError:
                self.repeated += 1
                await asyncio.sleep(RETRY_DELAY)

    def _of(self, device: Device) -> dict[str, Any]:
        request = device.request
        return {
            "app": request.app,
            "device": request.device,
            "edge": request.edge,
            "connection_id": request.connection_id,
        }

    def _forget(self, device: Device) -> None:
        self.devices.pop(subjects.ctl(device.request.app, self.name, device.name), None)

    def _on_answer(self, subject: str, _: str, payload: bytes, __: Headers) -> None:
        answer = decode_answer(payload)
        device = self.devices.get(subject)
        if not self.frozen and device is not None and device.request.connection_id == answer.connection_id:
            device.on_answer(answer)

    def _on_probe(self, _: str, reply: str, __: bytes, ___: Headers) -> None:
        if not self.frozen:
            self.bus.publish(reply, self._heartbeat(leaving=False))

    async def _send_heartbeats(self) -> None:
        while True:
            if not self.frozen:
                self._publish_heartbeat(leaving=False)
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    def _publish_heartbeat(self, *, leaving: bool) -> None:
        self.bus.publish(subjects.heartbeat("edge", self.name), self._heartbeat(leaving=leaving))

    def _heartbeat(self, *, leaving: bool) -> bytes:
        return encode(Heartbeat(role="edge", name=self.name, incarnation=self.incarnation, leaving=leaving))


@contextlib.asynccontextmanager
async def fake_edge(url: str, name: str = "edge-0") -> AsyncIterator[FakeEdge]:
    """Run an edge without sockets on the NATS servers at `url`."""
    bus = await connect(NatsSettings(url=url), name)
    edge = FakeEdge(bus, name)
    try:
        await edge.start()
        yield edge
    finally:
        await edge.end()
