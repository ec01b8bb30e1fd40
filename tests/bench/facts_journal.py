"""Throughput of the journal when empty and when full, and its start-up times."""

import asyncio
import time
from pathlib import Path

from rich.progress import Progress

from bench.facts import Row
from bench.load_facts import fill, use, watch
from harness import Service, nats_server, service
from harness.facts import facts

EVENTS = 1_000_000
QUICK = 40_000
SIZES = (64, 64)
TENTH = 0.1  # share of the events over which a rate is measured, at the beginning and at the end


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Let a journal store events; then restart it with and without its snapshot."""
    count = QUICK if quick else EVENTS
    task = progress.add_task("journal: facts", total=count)
    with nats_server() as nats:
        async with facts(nats.url) as bus:
            await fill(bus.bus, count, SIZES, lambda done: progress.advance(task, done))
        progress.reset(task, total=count, description="journal: storing")
        with service("journal", {"CLOUDMATCH_NATS_URL": nats.url}, ready=False) as journal:
            pids = {"journal": journal.process.pid, "nats-server": nats.process.pid}
            samples = await watch(journal, "cloudmatch_journal_events_total", count, pids, progress, task)
            fresh = samples.span(0, TENTH * count)
            full = samples.span((1 - TENTH) * count, count)
            progress.reset(task, total=3, description="journal: starts")
            with_snapshot = await asyncio.to_thread(_restart, journal, rebuild=False)
            started = use(journal.process.pid).memory
            progress.advance(task)
            without_snapshot = await asyncio.to_thread(_restart, journal, rebuild=True)
            progress.advance(task)
            checked = await asyncio.to_thread(_verify, journal)
            progress.advance(task)
    size = f"{count:,} events"

    def row(what: str, value: float, unit: str, goal: str = "", met: bool | None = None) -> Row:
        return Row("journal", what, value, unit, goal, None if quick else met)

    ratio = fresh.rate / full.rate
    return [
        row("stored, empty", fresh.rate, "events/s", "≥ 5,000", fresh.rate >= 5000),
        row(f"stored, at {size}", full.rate, "events/s", "≥ 5,000", full.rate >= 5000),
        row("empty / full", ratio, "×", "≤ 1.3", ratio <= 1.3),
        row("CPU, empty", fresh.cpu_us("journal"), "µs/event"),
        row(f"CPU, at {size}", full.cpu_us("journal"), "µs/event"),
        row("CPU, full / empty", full.cpu_us("journal") / fresh.cpu_us("journal"), "×"),
        row("other processes, empty", fresh.other_cores, "cores"),
        row(f"other processes, at {size}", full.other_cores, "cores"),
        row(f"CPU of nats-server, at {size}", full.cpu_us("nats-server"), "µs/event"),
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
    journal.start(deadline=120)
    return time.monotonic() - begun


def _verify(journal: Service) -> float:
    """Verify the journal, which must be intact; return the seconds that it takes."""
    begun = time.monotonic()
    done = journal.ask("verify", deadline=600)
    assert done.returncode == 0, done
    return time.monotonic() - begun
