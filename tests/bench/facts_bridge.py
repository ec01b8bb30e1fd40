"""Throughput, cost and latency of the bridge to RabbitMQ: batches, and single sizes beside them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from statistics import median
from typing import Any, NamedTuple

from rich.progress import Progress

from bench.facts import Row
from bench.load_facts import Span, fill_batches, watch
from harness import Service, eventually, nats_server, rabbitmq, service
from harness.amqp import arriving, arriving_singles
from harness.facts import Facts, facts

SPANS, PAYLOADS = 100, 2  # per fact: 50 pairs, with two payloads in each direction
SIZES = SPANS * PAYLOADS
FACTS = 20_000  # a backlog
QUICK = 5_000  # sizes of a quick run
RATE = 10_000.0  # sizes/s of a flow
SECONDS = 20.0  # of it
LAG, COST = 2.0, 60.0  # s; CPU-µs per size: at most
ONES = 50  # facts sent one at a time
RAMP = 0.1  # share of the sizes left out at the beginning and at the end
CONFIRMED, SINGLES = "cloudmatch_bridge_rabbit_confirmed_total", "cloudmatch_bridge_rabbit_singles_total"


class System(NamedTuple):
    """A bridge between its servers."""

    bus: Facts
    bridge: Service
    amqp_url: str
    pids: dict[str, int]


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Let the bridge work off a backlog of batches, then a flow with single sizes; then single facts."""
    return [*await _backlog(progress, quick), *await _flow(progress, quick)]


@contextlib.asynccontextmanager
async def _system(progress: Progress, *, backlog: int, singles: bool) -> AsyncIterator[System]:
    with nats_server() as nats, rabbitmq() as node:
        async with facts(nats.url) as bus:
            if backlog:
                task = progress.add_task("bridge: filling", total=backlog)
                await fill_batches(bus.bus, backlog, SPANS, lambda done: progress.advance(task, done))
            settings = {
                "CLOUDMATCH_NATS_URL": nats.url,
                "CLOUDMATCH_AMQP_URL": node.url,
                "CLOUDMATCH_BRIDGE_RABBIT_SINGLES": str(singles).lower(),
            }
            with service("bridge-rabbit", settings, ready=not backlog) as bridge:
                processes = {"bridge-rabbit": bridge, "rabbitmq": node, "nats-server": nats}
                pids = {name: each.process.pid for name, each in processes.items()}
                yield System(bus, bridge, node.url, pids)


async def _backlog(progress: Progress, quick: bool) -> list[Row]:
    count = QUICK // SIZES if quick else FACTS
    total = count * SIZES
    async with _system(progress, backlog=count, singles=False) as here:
        task = progress.add_task("bridge: batches", total=total)
        samples = await watch(here.bridge, CONFIRMED, total, here.pids, progress, task)
    span = samples.span(RAMP * total, (1 - RAMP) * total)
    return [Row("bridge", "backlog of batches: confirmed", span.rate, "sizes/s"), *_costs("batches", span)]


async def _flow(progress: Progress, quick: bool) -> list[Row]:
    count = (QUICK if quick else int(RATE * SECONDS)) // SIZES
    total = count * SIZES
    async with _system(progress, backlog=0, singles=True) as here:
        task = progress.add_task("bridge: singles", total=total)
        feeding = asyncio.create_task(_feed(here.bus, count))
        samples = await watch(here.bridge, SINGLES, total, here.pids, progress, task)
        lag = time.monotonic() - await feeding
        waits = {
            "batch": await _waits(here, arriving, progress),
            "single": await _waits(here, arriving_singles, progress),
        }
    span = samples.span(RAMP * total, (1 - RAMP) * total)
    cost = sum(span.cpu_us(name) for name in here.pids)
    judged = None if quick else lag <= LAG
    return [
        Row("bridge", f"singles at {RATE:,.0f}/s: lag", lag, "s", f"≤ {LAG:g}", judged),
        Row("bridge", "singles: all", cost, "µs/size", f"≤ {COST:g}", None if quick else cost <= COST),
        *_costs("singles", span),
        *(Row("bridge", f"{what}: fact to consumer, median", wait, "ms") for what, wait in waits.items()),
    ]


def _costs(what: str, span: Span) -> list[Row]:
    return [
        *(Row("bridge", f"{what}: CPU of {name}", span.cpu_us(name), "µs/size") for name in span.end.uses),
        Row("bridge", f"{what}: other processes", span.other_cores, "cores"),
        Row("bridge", f"{what}: memory", span.end.uses["bridge-rabbit"].memory, "MiB"),
    ]


async def _feed(bus: Facts, count: int) -> float:
    """Publish a flow; return when the last fact was published (monotonic, s)."""
    began = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number * SIZES / RATE - time.monotonic()))
        await fill_batches(bus.bus, 1, SPANS, lambda _: None)
    return time.monotonic()


async def _waits(
    here: System, arriving: Callable[[str], AbstractAsyncContextManager[list[Any]]], progress: Progress
) -> float:
    """Return the median time from a fact to its message, in ms."""
    task = progress.add_task("bridge: one at a time", total=ONES)
    waits = []
    async with arriving(here.amqp_url) as messages:
        here.bus.payloads(64)
        await eventually(lambda: messages and here.bridge.metric(CONFIRMED) == here.bridge.metric(SINGLES))
        for _ in range(ONES):
            messages.clear()
            begun = time.monotonic()
            here.bus.payloads(64)
            await eventually(lambda: messages, 10)
            waits.append(time.monotonic() - begun)
            progress.advance(task)
    return median(waits) * 1000
