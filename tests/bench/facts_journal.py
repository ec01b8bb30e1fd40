"""Throughput of the journal when empty and when full, and its start-up times."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from bench.facts import Row
from bench.load_facts import Span, fill, fill_batches, use, watch
from cloudmatch_bus.client.connection import Bus
from harness import Service, nats_server, service
from harness.facts import facts

EVENTS = 1_000_000
QUICK = 40_000
SIZES = (64, 64)
BATCHES = 1_000_000  # 6 GB on disk, half of it the stream
QUICK_BATCHES = 4_000
SPANS = 50  # in a batch, of two payloads each
TENTH = 0.1  # share of the events over which a rate is measured, at the beginning and at the end


class Load(NamedTuple):
    """Facts to be stored."""

    unit: str  # what is counted
    count: int  # facts
    each: int  # units in a fact
    goal: int  # units/s
    fill: Callable[[Bus, int, Callable[[int], None]], Awaitable[None]]


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Let a journal store facts of one direction, another batches; restart each with and without state."""
    events, batches = (QUICK, QUICK_BATCHES) if quick else (EVENTS, BATCHES)
    loads = (
        Load("event", events, 1, 5_000, lambda bus, n, advance: fill(bus, n, SIZES, advance)),
        Load(
            "size", batches, 2 * SPANS, 200_000, lambda bus, n, advance: fill_batches(bus, n, SPANS, advance)
        ),
    )
    return [row for load in loads for row in await _measure(progress, quick, load)]


async def _measure(progress: Progress, quick: bool, load: Load) -> list[Row]:
    count, unit = load.count, load.unit
    task = progress.add_task(f"journal: {unit}s", total=count)
    with nats_server() as nats:
        async with facts(nats.url) as bus:
            await load.fill(bus.bus, count, lambda done: progress.advance(task, done))
        progress.reset(task, total=count, description=f"journal: storing {unit}s")
        with service("journal", {"CLOUDMATCH_NATS_URL": nats.url}, ready=False) as journal:
            pids = {"journal": journal.process.pid, "nats-server": nats.process.pid}
            samples = await watch(journal, "cloudmatch_journal_events_total", count, pids, progress, task)
            fresh = samples.span(1, TENTH * count)
            full = samples.span((1 - TENTH) * count, count)
            progress.reset(task, total=3, description="journal: starts")
            with_snapshot = await asyncio.to_thread(_restart, journal, rebuild=False)
            started = use(journal.process.pid).memory
            progress.advance(task)
            without_snapshot = await asyncio.to_thread(_restart, journal, rebuild=True)
            progress.advance(task)
            checked = await asyncio.to_thread(_verify, journal)
            progress.advance(task)
    size = f"{count * load.each:,} {unit}s"

    def row(what: str, value: float, unit: str, goal: str = "", met: bool | None = None) -> Row:
        return Row("journal", what, value, unit, goal, None if quick else met)

    def cost(span: Span, process: str) -> float:
        return span.cpu_us(process) / load.each

    empty_rate, full_rate = fresh.rate * load.each, full.rate * load.each
    ratio = empty_rate / full_rate
    goal = f"≥ {load.goal:,}"
    return [
        row(f"{unit}s stored, empty", empty_rate, f"{unit}s/s", goal, empty_rate >= load.goal),
        row(f"{unit}s stored, at {size}", full_rate, f"{unit}s/s", goal, full_rate >= load.goal),
        row(f"{unit}s, empty / full", ratio, "×", "≤ 1.3", ratio <= 1.3),
        row("CPU, empty", cost(fresh, "journal"), f"µs/{unit}"),
        row(f"CPU, at {size}", cost(full, "journal"), f"µs/{unit}"),
        row("CPU, full / empty", cost(full, "journal") / cost(fresh, "journal"), "×"),
        row("other processes, empty", fresh.other_cores, "cores"),
        row(f"other processes, at {size}", full.other_cores, "cores"),
        row(f"CPU of nats-server, at {size}", cost(full, "nats-server"), f"µs/{unit}"),
        row("memory, empty", fresh.end.uses["journal"].memory, "MiB"),
        row(f"memory, at {size}", full.end.uses["journal"].memory, "MiB"),
        row("memory after a start from the snapshot", started, "MiB"),
        row("start after kill -9, from the snapshot", with_snapshot, "s", "≤ 5", with_snapshot <= 5),
        row("start after kill -9, without a snapshot", without_snapshot, "s"),
        row("verify against the stream", checked, "s"),
    ]


def _restart(journal: Service, *, rebuild: bool) -> float:
    """Kill and start it; return the seconds until it is ready."""
    journal.kill()
    if rebuild:
        Path(journal.env["CLOUDMATCH_RUN_DIR"], "journal/state.json").unlink()
    begun = time.monotonic()
    journal.start(deadline=600)
    return time.monotonic() - begun


def _verify(journal: Service) -> float:
    """Verify the journal, which must be intact; return the seconds that it takes."""
    begun = time.monotonic()
    done = journal.ask("verify", deadline=600)
    assert done.returncode == 0, done
    return time.monotonic() - begun
