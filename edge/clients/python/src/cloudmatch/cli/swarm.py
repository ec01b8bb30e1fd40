"""Many devices that talk, with a live table: ``cloudmatch swarm``."""

import asyncio
import contextlib
import random
import secrets
import time
from dataclasses import dataclass, replace

from rich.console import Console
from rich.live import Live
from rich.table import Table

import cloudmatch
from cloudmatch import Device, NotMatchedError, PeerLeftError, State
from cloudmatch.cli.swarm_stats import Tally

SETTLE = 15.0  # s at the end for what is under way
TOGETHER = 50  # devices that connect at the same time
_dice = random.Random()  # noqa: S311 # chooses whom to cut


@dataclass(frozen=True)
class Wish:
    """What a swarm is to do."""

    url: str
    devices: int  # even
    rate: float  # payloads per s and device
    size: int  # bytes of a payload
    drop: float  # connections cut per s
    seconds: float | None  # None: until Ctrl-C
    token: str | None


class Swarm:
    """Devices in pairs; each counts what it says and checks what it hears."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._app = f"swarm-{secrets.token_hex(4)}"  # no other device sees ours
        self._devices: list[Device] = []
        self._tally = Tally()
        self._stop = asyncio.Event()
        self._opening = asyncio.Semaphore(TOGETHER)
        # devices that stopped and whose payloads have arrived; set when these are all
        self._flushed = 0
        self._quiet = asyncio.Event()
        self._states: list[State] = []  # while they talk
        # when the rate was last taken, how much had been received by then, and the rate
        self._seen = (time.monotonic(), 0)
        self._speed = 0.0

    async def run(self, console: Console) -> bool:
        """Run until stopped; tell whether all that was sent has arrived, once and in order."""
        lives = [asyncio.create_task(self._live(number)) for number in range(self._wish.devices)]
        cutting = asyncio.create_task(self._cut())
        screen = Live(self.table(), console=console, refresh_per_second=4) if console.is_terminal else None
        try:
            with screen or contextlib.nullcontext():
                end = None if self._wish.seconds is None else time.monotonic() + self._wish.seconds
                while not self._stop.is_set() and (end is None or time.monotonic() < end):
                    failed = next((t for t in lives if t.done()), None)
                    if failed is not None:
                        await failed
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), 0.25)
                    table = self.table()
                    if screen is not None:
                        screen.update(table)
                self._stop.set()
                cutting.cancel()
                await asyncio.wait(lives, timeout=SETTLE)
                if screen is not None:
                    screen.update(self.table())
        finally:
            for task in (cutting, *lives):
                task.cancel()
            await asyncio.gather(cutting, *lives, return_exceptions=True)
        if screen is None:
            console.print(self.table())
        return not self._tally.lost and not self._tally.faults

    def stop(self) -> None:
        """Send no more, wait for what is under way, and end."""
        self._stop.set()

    async def _live(self, number: int) -> None:
        """Be one device: the pair shares a place and a tag."""
        pair, id_ = number // 2, f"{self._app}-{number}"
        lat, lon = (pair * 7.3) % 160 - 80, (pair * 13.7) % 360 - 180
        device = cloudmatch.connect(
            self._wish.url,
            id=id_,
            lat=lat,
            lon=lon,
            app=self._app,
            radius=1000,
            tag=str(pair),
            token=self._wish.token,
            timeout=30,
            linger=0,
        )
        async with self._opening:
            await device.__aenter__()
        try:
            self._devices.append(device)
            device.on(cloudmatch.Resumed, lambda _: self._count("resumes"))
            device.on(cloudmatch.Disconnected, lambda _: self._count("disconnects"))
            device.on(
                cloudmatch.PeerLeft, lambda e: self._tally.fail(e.peer.match, device.id, len(e.undelivered))
            )
            hearing = asyncio.create_task(self._hear(device))
            await self._speak(device)
            await device.flush()
            self._flushed += 1
            if self._flushed == self._wish.devices:
                self._quiet.set()
            await self._quiet.wait()  # the peer may still send
            hearing.cancel()
        finally:
            await device.__aexit__(None, None, None)

    def _count(self, what: str) -> None:
        self._tally.counts[what] += 1

    async def _speak(self, device: Device) -> None:
        pause = 1 / self._wish.rate
        due = time.monotonic() + random.random() * pause  # noqa: S311 # spreads devices
        while not self._stop.is_set():
            peer = device.peer
            if peer is not None:
                number = self._tally.send(peer.match, device.id)
                text = f"{peer.match} {device.id} {number} {time.perf_counter_ns()} "
                try:
                    await device.send(text.ljust(self._wish.size, "."))
                except (NotMatchedError, PeerLeftError):
                    self._tally.undo(peer.match, device.id)
            due = max(due + pause, time.monotonic() - 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(0.0, due - time.monotonic()))

    async def _hear(self, device: Device) -> None:
        async for payload in device:
            match, sender, number, sent, _ = str(payload).split(" ", 4)
            latency = (time.perf_counter_ns() - int(sent)) / 1e9
            self._tally.receive(int(match), sender, int(number), latency)

    async def _cut(self) -> None:
        """Cut connections at random."""
        while self._wish.drop > 0:
            await asyncio.sleep(_dice.expovariate(self._wish.drop))
            matched = [device for device in self._devices if device.state is State.MATCHED]
            if matched:
                _dice.choice(matched).cut()
                self._count("cut")

    def table(self) -> Table:
        """Give the state of things."""
        if not self._stop.is_set():
            self._states = [device.state for device in self._devices]
        counts, (since, before), now = self._tally.counts, self._seen, time.monotonic()
        if now - since >= 1:
            self._speed = (counts["received"] - before) / (now - since)
            self._seen = (now, counts["received"])
        elif not self._speed and now > since:
            self._speed = counts["received"] / (now - since)
        table = Table(title=f"{self._wish.devices} devices at {self._wish.url}", title_justify="left")
        table.add_column("what")
        table.add_column("figure", justify="right")
        p50, p99 = self._tally.latency(0.5), self._tally.latency(0.99)
        under_way = sum(device.pending for device in self._devices)
        rows: dict[str, str | int] = {
            "connected": sum(s in (State.WAITING, State.MATCHED) for s in self._states),
            "matched": sum(s is State.MATCHED for s in self._states),
            "payloads sent": counts["sent"],
            "payloads received": counts["received"],
            "payloads/s": f"{self._speed:,.0f}",
            "latency p50": "" if p50 is None else f"{p50 * 1000:.1f} ms",
            "latency p99": "" if p99 is None else f"{p99 * 1000:.1f} ms",
            "connections cut": counts["cut"],
            "connections lost": counts["disconnects"],
            "resumes": counts["resumes"],
            "under way": under_way,
            "told to be undelivered": counts["told"],
            "lost": max(0, self._tally.lost - under_way),
            "twice": counts["twice"],
            "out of order": counts["out of order"],
        }
        for name, figure in rows.items():
            bad = name in ("lost", "twice", "out of order") and figure and self._stop.is_set()
            table.add_row(
                name, f"{figure:,}" if isinstance(figure, int) else figure, style="red" if bad else ""
            )
        return table


def swarm(wish: Wish) -> Swarm:
    """Make a swarm of whole pairs."""
    return Swarm(replace(wish, devices=wish.devices + wish.devices % 2))
