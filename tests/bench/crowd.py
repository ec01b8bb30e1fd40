"""Measure crowds: all devices of an edge lose their sockets and return, or leave without a worker."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench.crowd_devices import Crowd
from bench.pairing import cpu_seconds
from cloudmatch_bus.process.descriptors import raise_limit
from harness import NatsServer, Service, nats_server, service

REPEATED = "cloudmatch_edge_requests_repeated_total"
IDLE = 0.15  # of a core, all processes together
console = Console(width=max(120, Console().width))


class Stack(NamedTuple):
    """One edge, one worker, one NATS server."""

    nats: NatsServer
    worker: Service
    edge: Service

    @property
    def port(self) -> int:
        """Where devices connect."""
        return int(self.edge.url.rpartition(":")[2])

    def cpu(self) -> dict[str, float]:
        """CPU seconds used, by process."""
        pids = {"edge": self.edge, "worker": self.worker, "nats": self.nats}
        return {
            name: cpu_seconds(each.process.pid)
            for name, each in pids.items()
            if each.process.returncode is None
        }

    def log_lines(self) -> int:
        """Lines that edge and worker have logged."""
        return self.edge.logs().count("\n") + self.worker.logs().count("\n")

    def messages_of_edge(self) -> int:
        """Messages that the edge has sent to NATS."""
        connections = (self.nats.ask("/connz") or {}).get("connections", [])
        return sum(each["in_msgs"] for each in connections if each.get("name") == "edge")


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    """Run the processes."""
    with nats_server() as nats:
        bus = {"CLOUDMATCH_NATS_URL": nats.url}
        with service("match-engine", bus) as worker, service("edge", bus) as edge:
            yield Stack(nats, worker, edge)


@contextlib.contextmanager
def spinners(count: int, seconds: float) -> Iterator[None]:
    """Load the machine with endless loops, which end by themselves after `seconds`."""
    loop = [sys.executable, "-c", f"import time\nend=time.time()+{seconds}\nwhile time.time()<end: pass"]
    running = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


async def idle_after(under_test: Stack, limit: float) -> float:
    """Wait until the processes use next to nothing; return the seconds that took."""
    began = time.monotonic()
    before = under_test.cpu()
    while time.monotonic() - began < limit:
        await asyncio.sleep(0.5)
        now = under_test.cpu()
        if sum(now.values()) - sum(before.values()) < IDLE * 0.5:
            break
        before = now
    return time.monotonic() - began


async def returning(under_test: Stack, count: int, deadline: float, spinning: int) -> dict[str, Any]:
    """All devices lose their sockets at once, and return."""
    crowd = Crowd(under_test.port, count)
    await crowd.connect()
    paired = await crowd.until_back(deadline)
    settled = await idle_after(under_test, 30)
    console.print(f"{crowd.back} of {count} in a match, after {paired:.1f} s; idle after {settled:.1f} s")
    repeated, cpu, lines = under_test.edge.metric(REPEATED), under_test.cpu(), under_test.log_lines()
    crowd.messages.clear()
    with spinners(spinning, deadline + 60):
        for device in crowd.devices:
            device.reset()
        seconds = await crowd.until_back(deadline)
    back = crowd.back
    idle = await idle_after(under_test, 60)
    used = {name: seconds - cpu[name] for name, seconds in under_test.cpu().items()}
    for device in crowd.devices:
        if device.open:
            device.send(device.name)
    await crowd.until(lambda: all(device.received for device in crowd.devices), 30)
    peers = [(device.name.translate({97: 98, 98: 97}), device) for device in crowd.devices]
    figures = {
        "back": back,
        "seconds": round(seconds, 1),
        "idle after": round(idle, 1),
        "requests repeated": int(under_test.edge.metric(REPEATED) - repeated),
        "log lines": under_test.log_lines() - lines,
        "matches lost": crowd.lost,
        "peer thought away": sum(device.peer_away for device in crowd.devices),
        "payloads": sum(device.received == [peer] for peer, device in peers),
        "cpu": {name: round(seconds, 1) for name, seconds in used.items()},
        "messages": dict(crowd.messages),
        "refused": dict(crowd.refused),
        "closed": dict(crowd.closed),
    }
    await crowd.leave()
    figures["all left after"] = round(await idle_after(under_test, 60), 1)
    return figures


async def leaving(under_test: Stack, count: int) -> dict[str, Any]:
    """The worker ends while devices wait; all of them leave."""
    crowd = Crowd(under_test.port, count, classic=True)
    await crowd.connect()
    await idle_after(under_test, 30)
    under_test.worker.terminate()
    await asyncio.sleep(1)
    await crowd.leave()
    await asyncio.sleep(3)
    seconds = 10
    cpu, messages, lines = under_test.cpu(), under_test.messages_of_edge(), under_test.log_lines()
    await asyncio.sleep(seconds)
    sent = under_test.messages_of_edge() - messages
    used = under_test.cpu()["edge"] - cpu["edge"]
    figures: dict[str, Any] = {
        "messages of the edge/s": sent / seconds,
        "of them heartbeats": 2,
        "cores of the edge": round(used / seconds, 3),
        "log lines": under_test.log_lines() - lines,
    }
    under_test.worker.start()
    devices = "cloudmatch_match_engine_devices"
    figures["all gone after"] = round(await crowd.until(lambda: not under_test.worker.metric(devices), 60), 1)
    return figures


def show(title: str, figures: dict[str, Any]) -> None:
    """Print figures."""
    table = Table("what", "figure", title=title, title_justify="left")
    for name, value in figures.items():
        table.add_row(name, str(value))
    console.print(table)


def main(
    devices: Annotated[int, typer.Option(min=2, help="Devices of the edge; an even number.")] = 6000,
    leavers: Annotated[int, typer.Option(help="Devices that leave while no worker runs; 0: none.")] = 2000,
    spinning: Annotated[int, typer.Option(help="Endless loops beside them.")] = 0,
    deadline: Annotated[float, typer.Option(help="Seconds to wait for all to be back.")] = 120.0,
) -> None:
    """Break all connections of an edge at once, and measure how its devices come back.

    Examples: `make bench WHAT=crowd`, `make bench WHAT=crowd ARGS='--devices 1000 --spinning 4'`.
    """
    raise_limit()
    if devices:
        with stack() as under_test:
            console.print(f"{devices} devices, {spinning} spinners", style="bold")
            figures = uvloop.run(returning(under_test, devices, deadline, spinning))
            show(f"{devices:,} devices of one edge lose their sockets at once", figures)
    if leavers:
        with stack() as under_test:
            figures = uvloop.run(leaving(under_test, leavers))
            show(f"{leavers:,} devices leave while no worker runs", figures)


if __name__ == "__main__":
    typer.run(main)
