"""Measure pairing: one worker and one NATS server, with the requests of edges."""

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
    """The result of one load."""

    title: str
    sample: Sample
    cpu_ms: dict[str, float]  # per match, by process
    cores: dict[str, float]  # busy, by process

    def as_json(self) -> dict[str, Any]:
        """Return the row for the JSON file."""
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
    """Return the CPU time that a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


class Bench:
    """The processes under test, and the edges that load them."""

    def __init__(self, pids: dict[str, int], edges: list[FakeEdge]) -> None:
        self.pids = {**pids, "generator": os.getpid()}
        self.edges = edges
        self.rows: list[Row] = []

    async def measure(self, title: str, load: Callable[[], Awaitable[Sample]]) -> None:
        """Run a load, keep its result and print it."""
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
async def bench() -> AsyncIterator[Bench]:
    """Run a NATS server, a worker, and two edges without sockets for devices."""
    with contextlib.ExitStack() as running:
        nats = await asyncio.to_thread(running.enter_context, nats_server())
        settings = {"CLOUDMATCH_NATS_URL": nats.url}
        worker = await asyncio.to_thread(running.enter_context, service("match-engine", settings))
        pids = {"worker": worker.process.pid, "nats-server": nats.process.pid}
        async with contextlib.AsyncExitStack() as edges:
            made = [await edges.enter_async_context(fake_edge(nats.url, f"edge-{i}")) for i in range(2)]
            yield Bench(pids, made)


async def run(pools: list[int], rate: float, seconds: float, hot: int) -> list[Row]:
    """Measure all loads."""
    async with bench() as under_test:
        for waiting in pools:
            town = Town(under_test.edges, f"town-{waiting}")
            await town.fill(waiting)
            gc.collect()
            gc.freeze()  # keep pauses of the generator's own garbage collector out of the measurement
            await town.open_loop(rate, 1)  # warm-up
            await under_test.measure(
                f"{rate:.0f}/s, {waiting:,} waiting", lambda town=town: town.open_loop(rate, seconds)
            )
            await under_test.measure(
                f"as fast as possible, {waiting:,} waiting", lambda town=town: town.closed_loop(64, seconds)
            )
        spot = Town(under_test.edges, "spot", hot=True)
        await spot.fill(hot)
        await under_test.measure(
            f"{rate:.0f}/s, {hot:,} waiting in one place", lambda: spot.open_loop(rate, seconds)
        )
        await under_test.measure(
            f"{hot:,} at once in one place", lambda: burst(under_test.edges, "burst", hot)
        )
        return under_test.rows


def table(rows: list[Row]) -> Table:
    """Lay out the results of all loads as a table."""
    made = Table(
        title="pairing: from the request until both devices are notified; CPU-ms per match and its end",
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
    quick: Annotated[bool, typer.Option("--quick", help="Small pools, short runs.")] = False,
    waiting: Annotated[
        list[int] | None, typer.Option(min=2, help="Number of waiting devices; may be repeated.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Arrivals per second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Duration of each load.")] = 15.0,
    hot: Annotated[int, typer.Option(min=2, help="Devices in one place.")] = 1000,
    folder: Annotated[Path, typer.Option(help="Folder of the JSON file.")] = ROOT / ".run" / "bench",
) -> None:
    """Measure how long pairing takes.

    Devices wait all over a city, 150 m apart, each with a radius of 50 m. Others arrive beside them, one
    after another, and leave when both have been notified of their match. Requests go over the bus, without
    sockets.

    Examples: `make bench WHAT=pairing`, `make bench WHAT=pairing ARGS=--quick`.
    """
    pools = waiting or ([100, 1000] if quick else [100, 1000, 10_000])
    if quick:
        seconds, hot = 2.0, 200
    rows = uvloop.run(run(pools, rate, seconds, hot))
    console.print(table(rows))
    missed = sum(row.sample.missed for row in rows)
    if missed:
        console.print(f"[red]{missed} arrivals were not matched with the device beside them[/red]")
    about = machine()
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    file = folder / f"pairing-{date}.json"
    file.write_text(json.dumps({**about, "loads": [row.as_json() for row in rows]}))
    console.print(f"All figures: {file}")
    if missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
