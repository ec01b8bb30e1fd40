"""Measure pairing: one worker and one NATS server, asked as edges ask, on the bus."""

import asyncio
import contextlib
import datetime
import gc
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench.machine import ROOT, machine
from bench.pool_load import Sample, Town, burst
from harness import nats_server, service
from harness.edges import FakeEdge, fake_edge

TICKS = os.sysconf("SC_CLK_TCK")
console = Console(width=max(120, Console().width))


class Row(NamedTuple):
    """One load, and what it took."""

    title: str
    sample: Sample
    cpu_ms: dict[str, float]  # per pairing, by process
    cores: dict[str, float]  # busy, by process

    def told(self) -> dict[str, Any]:
        """What the JSON says of it."""
        sample = self.sample
        return {
            "title": self.title,
            "pairings": len(sample.latencies),
            "seconds": sample.seconds,
            "pairings_per_second": sample.rate,
            "p50_ms": sample.percentile(0.5),
            "p99_ms": sample.percentile(0.99),
            "max_ms": sample.percentile(1.0),
            "missed": sample.missed,
            "generator_late_ms": 1000 * max(sample.late, default=0.0),
            "cpu_ms": self.cpu_ms,
            "cores": self.cores,
        }


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


class Stand:
    """What is measured, and the edges that ask."""

    def __init__(self, pids: dict[str, int], edges: list[FakeEdge]) -> None:
        self.pids = {**pids, "generator": os.getpid()}
        self.edges = edges
        self.rows: list[Row] = []

    async def measure(self, title: str, load: Callable[[], Awaitable[Sample]]) -> None:
        """Run a load, and show what came of it."""
        before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        sample = await load()
        used = {name: cpu_seconds(pid) - before[name] for name, pid in self.pids.items()}
        pairings = max(1, len(sample.latencies))
        row = Row(
            title,
            sample,
            {name: 1000 * seconds / pairings for name, seconds in used.items()},
            {name: seconds / sample.seconds for name, seconds in used.items()},
        )
        self.rows.append(row)
        console.print(f"{title}: {sample.rate:,.0f}/s, p50 {sample.percentile(0.5):.1f} ms", style="dim")


@contextlib.asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    """Run a NATS server, a worker, and two edges without sockets."""
    with contextlib.ExitStack() as running:
        nats = await asyncio.to_thread(running.enter_context, nats_server())
        settings = {"CLOUDMATCH_NATS_URL": nats.url}
        worker = await asyncio.to_thread(running.enter_context, service("match-engine", settings))
        pids = {"worker": worker.process.pid, "nats-server": nats.process.pid}
        async with contextlib.AsyncExitStack() as edges:
            made = [await edges.enter_async_context(fake_edge(nats.url, f"edge-{i}")) for i in range(2)]
            yield Stand(pids, made)


async def run(pools: list[int], rate: float, seconds: float, hot: int) -> list[Row]:
    """Measure all loads."""
    async with stand() as under:
        for waiting in pools:
            town = Town(under.edges, f"town-{waiting}")
            await town.fill(waiting)
            gc.collect()
            gc.freeze()  # the pauses of the generator's own memory are not what is measured
            await town.open_loop(rate, 1)  # to warm up
            await under.measure(
                f"{rate:.0f}/s, {waiting:,} wait", lambda town=town: town.open_loop(rate, seconds)
            )
            await under.measure(
                f"as many as can, {waiting:,} wait", lambda town=town: town.closed_loop(64, seconds)
            )
        spot = Town(under.edges, "spot", hot=True)
        await spot.fill(hot)
        await under.measure(f"{rate:.0f}/s, {hot:,} wait in one place", lambda: spot.open_loop(rate, seconds))
        await under.measure(f"{hot:,} at once in one place", lambda: burst(under.edges, "burst", hot))
        return under.rows


def table(rows: list[Row]) -> Table:
    """Draw what was measured."""
    made = Table(
        title="pairing: from asking until both have heard; CPU-ms per pairing, its end included",
        title_justify="left",
    )
    for column in ("load", "pairings/s", "p50 ms", "p99 ms", "max ms", "worker", "nats", "generator"):
        made.add_column(column, justify="left" if column == "load" else "right", no_wrap=True)
    for row in rows:
        made.add_row(
            row.title,
            f"{row.sample.rate:,.0f}",
            *(f"{row.sample.percentile(share):.1f}" for share in (0.5, 0.99, 1.0)),
            *(f"{row.cpu_ms[name]:.2f}" for name in ("worker", "nats-server", "generator")),
        )
    return made


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small pools, a short time.")] = False,
    waiting: Annotated[
        list[int] | None, typer.Option(min=2, help="How many wait; may be given again.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Arrivals per second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each load.")] = 15.0,
    hot: Annotated[int, typer.Option(min=2, help="Devices in one place.")] = 1000,
    folder: Annotated[Path, typer.Option(help="Where the JSON goes.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure how long it takes to be paired.

    Devices wait over a city, 150 m apart, each reaching 50 m. Others arrive beside them, one after another,
    and leave when both have heard that they are paired. All is asked on the bus, as edges ask: no sockets.

    Examples: `make bench WHAT=pairing`, `make bench WHAT=pairing ARGS=--quick`.
    """
    pools = waiting or ([100, 1000] if quick else [100, 1000, 10_000])
    if quick:
        seconds, hot = 2.0, 200
    rows = uvloop.run(run(pools, rate, seconds, hot))
    console.print(table(rows))
    missed = sum(row.sample.missed for row in rows)
    if missed:
        console.print(f"[red]{missed} arrivals were not paired with whom they stood beside[/red]")
    about = machine()
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    file = folder / f"pairing-{date}.json"
    file.write_text(json.dumps({**about, "loads": [row.told() for row in rows]}))
    console.print(f"All figures: {file}")
    if missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
