"""Many devices exchanging payloads, with a live table: ``cloudmatch swarm``."""

import asyncio
import contextlib
import random
import secrets
import time
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.live import Live
from rich.table import Table

import cloudmatch
from cloudmatch import Device, NotMatchedError, PeerLeftError, RefusedError, State, UnreachableError
from cloudmatch.cli.swarm_stats import SwarmStats

SETTLE = 15.0  # s allowed at the end for payloads in flight
NO_ROOM = {"edge_full", "too_many_connections", "app_quota", "rate_limited"}  # errors that pass
CONNECTING = 50  # devices that connect at the same time
_dice = random.Random()  # noqa: S311 # chooses connections to drop


@dataclass(frozen=True)
class SwarmOptions:
    """The options of a swarm."""

    urls: list[str]  # of edges
    devices: int  # an odd number is rounded up
    rate: float  # payloads per s and device
    size: int  # bytes of a payload
    drop: float  # connections dropped per s
    seconds: float | None  # None: until Ctrl-C
    token: str | None = field(repr=False)


class Swarm:
    """Devices in pairs; each numbers what it sends and checks what it receives."""

    def __init__(self, options: SwarmOptions) -> None:
        self._options = replace(options, devices=options.devices + options.devices % 2)
        self._app = f"swarm-{secrets.token_hex(4)}"  # of its own, so that no other device interferes
        self._devices: list[Device] = []
        self._stats = SwarmStats()
        self._stop = asyncio.Event()
        self._opening = asyncio.Semaphore(CONNECTING)
        # devices whose payloads are all delivered; set once that is every device
        self._flushed = 0
        self._quiet = asyncio.Event()
        self._states: list[State] = []  # as of the last table before the stop
        # when the rate was last measured, payloads received by then, and the rate
        self._seen = (time.monotonic(), 0)
        self._speed = 0.0

    async def run(self, console: Console) -> bool:
        """Run until stopped; return whether every payload arrived once and in order."""
        devices = [asyncio.create_task(self._run_device(number)) for number in range(self._options.devices)]
        dropping = asyncio.create_task(self._drop_connections())
        screen = Live(self.table(), console=console, refresh_per_second=4) if console.is_terminal else None
        try:
            with screen or contextlib.nullcontext():
                await self._until_stopped(devices, screen)
                self._stop.set()
                dropping.cancel()
                await asyncio.wait(devices, timeout=SETTLE)
                if screen is not None:
                    screen.update(self.table())
        finally:
            for task in (dropping, *devices):
                task.cancel()
            await asyncio.gather(dropping, *devices, return_exceptions=True)
        if screen is None:
            console.print(self.table())
        return not self._stats.lost and not self._stats.faults

    async def _until_stopped(self, devices: list[asyncio.Task[None]], screen: Live | None) -> None:
        """Update the screen until `stop` is called or the time is up; raise what made a device fail."""
        seconds = self._options.seconds
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stop.is_set() and (end is None or time.monotonic() < end):
            failed = next((task for task in devices if task.done()), None)
            if failed is not None:
                await failed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.25)
            table = self.table()
            if screen is not None:
                screen.update(table)

    def stop(self) -> None:
        """Stop sending, wait for the payloads in flight, and end."""
        self._stop.set()

    def _device(self, number: int) -> Device:
        """Return a device that matches only the other one of its pair."""
        pair = number // 2
        return cloudmatch.connect(
            self._options.urls,
            id=f"{self._app}-{number}",
            lat=(pair * 7.3) % 160 - 80,
            lon=(pair * 13.7) % 360 - 180,
            app=self._app,
            radius=1000,
            tag=str(pair),
            token=self._options.token,
            timeout=30,
            linger=0,
        )

    async def _run_device(self, number: int) -> None:
        device = self._device(number)
        async with self._opening:
            if not await self._open(device):
                self._finish()
                return
        try:
            self._devices.append(device)
            device.on(cloudmatch.Resumed, lambda _: self._count("resumes"))
            device.on(cloudmatch.Disconnected, lambda _: self._count("disconnects"))
            device.on(
                cloudmatch.PeerLeft, lambda e: self._stats.fail(e.peer.match, device.id, len(e.undelivered))
            )
            receiving = asyncio.create_task(self._receive(device))
            await self._send(device)
            await device.flush()
            self._finish()
            await self._quiet.wait()  # the peer may still be sending
            receiving.cancel()
        finally:
            await device.__aexit__(None, None, None)

    async def _open(self, device: Device) -> bool:
        """Connect; while all edges are full, try again until the swarm is stopped. Return whether there is a
        connection."""
        device.on(
            cloudmatch.ServerError,
            lambda error: self._count("refused" if error.code in NO_ROOM else "errors"),
        )
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                opening = asyncio.create_task(device.__aenter__())
                await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not opening.done():
                    opening.cancel()
                    await asyncio.wait({opening})
                    return False
                try:
                    await opening
                except UnreachableError as error:
                    if not isinstance(error.__cause__, RefusedError):
                        raise
                else:
                    return True
            return False
        finally:
            stopping.cancel()

    def _finish(self) -> None:
        """Note that a device has nothing more to send."""
        self._flushed += 1
        if self._flushed == self._options.devices:
            self._quiet.set()

    def _count(self, what: str) -> None:
        self._stats.counts[what] += 1

    async def _send(self, device: Device) -> None:
        pause = 1 / self._options.rate
        due = time.monotonic() + random.random() * pause  # noqa: S311 # spreads devices
        while not self._stop.is_set():
            peer = device.peer
            if peer is not None:
                number = self._stats.send(peer.match, device.id)
                text = f"{peer.match} {device.id} {number} {time.perf_counter_ns()} "
                try:
                    await device.send(text.ljust(self._options.size, "."))
                except (NotMatchedError, PeerLeftError):
                    self._stats.undo(peer.match, device.id)
            due = max(due + pause, time.monotonic() - 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(0.0, due - time.monotonic()))

    async def _receive(self, device: Device) -> None:
        async for payload in device:
            match, sender, number, sent, _ = str(payload).split(" ", 4)
            latency = (time.perf_counter_ns() - int(sent)) / 1e9
            self._stats.receive(int(match), sender, int(number), latency)

    async def _drop_connections(self) -> None:
        """Drop connections at random."""
        while self._options.drop > 0:
            await asyncio.sleep(_dice.expovariate(self._options.drop))
            matched = [device for device in self._devices if device.state is State.MATCHED]
            if matched:
                _dice.choice(matched).drop_connection()
                self._count("dropped")

    def table(self) -> Table:
        """Return the present figures."""
        table = Table(
            title=f"{self._options.devices} devices at {', '.join(self._options.urls)}", title_justify="left"
        )
        table.add_column("what")
        table.add_column("figure", justify="right")
        for name, figure in self._figures().items():
            bad = name in ("lost", "duplicated", "out of order") and figure and self._stop.is_set()
            text = f"{figure:,}" if isinstance(figure, int) else figure
            table.add_row(name, text, style="red" if bad else "")
        return table

    def _figures(self) -> dict[str, str | int]:
        if not self._stop.is_set():
            self._states = [device.state for device in self._devices]
        counts = self._stats.counts
        in_flight = sum(device.pending for device in self._devices)
        return {
            "connected": sum(s in (State.WAITING, State.MATCHED) for s in self._states),
            "matched": sum(s is State.MATCHED for s in self._states),
            "payloads sent": counts["sent"],
            "payloads received": counts["received"],
            "payloads/s": f"{self._measured_rate():,.0f}",
            "latency p50": self._latency(0.5),
            "latency p99": self._latency(0.99),
            "refused: no room": counts["refused"],
            "connections dropped": counts["dropped"],
            "connections lost": counts["disconnects"],
            "resumes": counts["resumes"],
            "in flight": in_flight,
            "undelivered": counts["undelivered"],
            "lost": max(0, self._stats.lost - in_flight),
            "duplicated": counts["duplicated"],
            "out of order": counts["out of order"],
        }

    def _latency(self, share: float) -> str:
        latency = self._stats.latency(share)
        return "" if latency is None else f"{latency * 1000:.1f} ms"

    def _measured_rate(self) -> float:
        """Return the payloads received per s over the last second or more."""
        received, (since, before), now = self._stats.counts["received"], self._seen, time.monotonic()
        if now - since >= 1:
            self._speed = (received - before) / (now - since)
            self._seen = (now, received)
        elif not self._speed and now > since:
            self._speed = received / (now - since)
        return self._speed
