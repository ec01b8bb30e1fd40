"""Throughput and cost of analytics, and the effect of stopped consumers on the relay.

RabbitMQ is fed directly, as bridge-rabbit does. A *backlog* is in the queue before analytics starts; a *flow*
arrives while it runs.
"""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import aio_pika
from aiormq.abc import AbstractChannel
from rich.progress import Progress

from bench import generator
from bench.facts import Row
from bench.load_facts import SAMPLE_INTERVAL, Span, watch
from bench.relay import valid
from bench.shapes import parse
from bench.stack import Stack, stack
from cloudmatch_bus.contract import amqp, amqp_batches
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.deliveries import span
from harness import eventually, kafka_broker, rabbitmq, service, source_of
from harness.analytics import encoded_batch

METRIC = "cloudmatch_analytics_counted_total"
APP = "bench"
SIZE = 64  # bytes of each payload
RAMP = 0.1  # share of the sizes left out at the beginning
GROWTH = 16  # MiB by which memory may grow after the ramp
TIME_SPAN = 20_000  # ms covered by the times of a backlog
LAG = 2.0  # s, at most, until all sizes of a flow are counted
QUICK = 100  # quick runs count so many times fewer sizes
RELAY = parse("50x8:64")
REPETITIONS, SECONDS = 5, 4.0
RATIO = 0.97


class Load(NamedTuple):
    """Messages for analytics."""

    title: str
    messages: int
    spans: int  # per message; 0: messages are single sizes
    payloads: int  # per span
    senders: int
    rate: float = 0.0  # messages/s; 0: a backlog
    least: float = 0.0  # sizes/s of a backlog
    most: float = 0.0  # CPU-µs of source, service, broker and RabbitMQ per size of a flow

    @property
    def sizes(self) -> int:
        """All sizes."""
        return self.messages * max(1, self.spans * self.payloads)

    def message(self, number: int, at: int) -> tuple[str, str, bytes, dict[str, object]]:
        """Return exchange, routing key, body and headers of a message."""
        if not self.spans:
            sender = f"device-{number % self.senders}"
            size = SizeMessage(SIZE, APP, sender, "x", 7, at, f"{number}.0").encode()
            return amqp.EXCHANGE, size.routing_key, size.body, size.headers
        senders = range(number * self.spans, (number + 1) * self.spans)
        sizes = [SIZE] * self.payloads
        spans = [span(f"device-{each % self.senders}", "x", 7, 0, sizes) for each in senders]
        return amqp_batches.EXCHANGE, APP, encoded_batch(spans, APP, at), {}


LOADS = (
    Load("backlog, 50 × 100", 2_000, 50, 100, 100, least=300_000),
    Load("backlog, 200 × 1", 10_000, 200, 1, 2_000, least=20_000),
    Load("backlog of singles", 50_000, 0, 1, 2_000, least=5_000),
    Load("flow, 100/s of 50 × 100", 2_000, 50, 100, 100, rate=100, most=0.2),
    Load("flow, 100/s of 200 × 1", 2_000, 200, 1, 2_000, rate=100, most=7),
)


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Let analytics count each load; then load a relay with and without frozen consumers."""
    rows: list[Row] = []
    for load in LOADS:
        chosen = load._replace(messages=load.messages // QUICK) if quick else load
        rows += await _count(progress, chosen, quick)
    return [*rows, *_relay(progress, quick)]


async def _count(progress: Progress, load: Load, quick: bool) -> list[Row]:
    task = progress.add_task(f"analytics: {load.title}", total=load.sizes)
    settled = 0.0
    with rabbitmq() as node, kafka_broker() as kafka, contextlib.ExitStack() as running:
        if not load.rate:
            await _fill(node.url, load)
        settings = {"CLOUDMATCH_AMQP_URL": node.url, **kafka.settings}
        ready = bool(load.rate)
        analytics = running.enter_context(service("analytics", settings, ready=ready, deadline=40))
        source = await eventually(lambda: source_of(analytics), 30, "the source")
        assert source
        pids = {
            "source": source,
            "analytics": analytics.process.pid,
            "analytics-broker": kafka.process.pid,
            "rabbitmq": node.process.pid,
        }
        feeding = asyncio.create_task(_feed(node.url, load)) if load.rate else None
        interval = 0.5 if load.rate and not quick else SAMPLE_INTERVAL
        samples = await watch(analytics, METRIC, load.sizes, pids, progress, task, interval)
        if feeding:
            settled = time.monotonic() - await feeding

        def summed() -> bool:
            windows = analytics.get_json("/windows?size=10s&last=100")
            return sum(window["messages"] for window in windows) == load.sizes

        await eventually(summed, 30, "all sizes in closed windows")
    return _rows(load, samples.span(RAMP * load.sizes, load.sizes), settled, quick)


def _rows(load: Load, measured: Span, lag: float, quick: bool) -> list[Row]:
    def row(quantity: str, value: float, unit: str, goal: str = "", *, met: bool | None = None) -> Row:
        return Row("analytics", f"{load.title}: {quantity}", value, unit, goal, None if quick else met)

    cost = {name: measured.cpu_us(name) for name in measured.begin.uses}
    whole = sum(cost.values())
    if load.rate:
        goal = row("all", whole, "µs/size", f"≤ {load.most:g}", met=whole <= load.most)
        rows = [row("lag", lag, "s", f"≤ {LAG:g}", met=lag <= LAG), goal]
    else:
        met = measured.rate >= load.least
        rows = [row("counted", measured.rate, "sizes/s", f"≥ {load.least:,.0f}", met=met)]
        rows.append(row("all", whole, "µs/size"))
    rows += [row(f"CPU of {name}", each, "µs/size") for name, each in cost.items()]
    if load.payloads > 1:
        rows.append(row("all", whole * load.payloads, "µs/span"))
    rows.append(row("other processes", measured.other_cores, "cores"))
    for name in ("source", "analytics"):
        memory = measured.end.uses[name].memory
        grown = memory - measured.begin.uses[name].memory
        rows.append(row(f"memory of {name}", memory, "MiB"))
        rows.append(row(f"growth of {name}", grown, "MiB", f"≤ {GROWTH}", met=grown <= GROWTH))
    return rows


@contextlib.asynccontextmanager
async def _publishing(url: str) -> AsyncIterator[tuple[aio_pika.abc.AbstractChannel, AbstractChannel]]:
    """Connect and declare the queues; yields a channel, and what is below it."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await (await amqp.declare(channel, "classic")).bind(amqp.EXCHANGE, "#")
        await amqp_batches.declare(channel, "classic")
        yield channel, await channel.get_underlay_channel()


async def _publish(channel: AbstractChannel, load: Load, number: int, at: int) -> None:
    exchange, key, body, headers = load.message(number, at)
    message = aio_pika.Message(
        body,
        message_id=f"{number}" if load.spans else f"{number}.0",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers=headers,
    )
    await channel.basic_publish(
        body,
        exchange=exchange,
        routing_key=key,
        properties=message.properties,
        wait=number % 100 == 0,  # drain the socket from time to time
    )


async def _fill(url: str, load: Load) -> None:
    """Publish a backlog; return once all of it is in the queue."""
    begin = time.time_ns() // 1_000_000 - TIME_SPAN
    async with _publishing(url) as (channel, below):
        for number in range(load.messages):
            await _publish(below, load, number, begin + number * TIME_SPAN // load.messages)

        async def queued() -> bool:
            name = amqp_batches.QUEUE if load.spans else amqp.QUEUE
            queue = await channel.declare_queue(name, passive=True)
            return queue.declaration_result.message_count == load.messages

        await eventually(queued, 60, "all messages in the queue")


async def _feed(url: str, load: Load) -> float:
    """Publish a flow; return when the last message was published (monotonic, s)."""
    async with _publishing(url) as (channel, below):
        began = time.monotonic()
        for number in range(load.messages):
            await asyncio.sleep(max(0.0, began + number / load.rate - time.monotonic()))
            await _publish(below, load, number, time.time_ns() // 1_000_000)
        await channel.declare_queue(amqp_batches.QUEUE, passive=True)  # an answer: RabbitMQ has everything
        return time.monotonic()


@contextlib.contextmanager
def _frozen_consumers(bus: str) -> Iterator[None]:
    """Connect journal, bridge and analytics, then freeze them by SIGSTOP and kill RabbitMQ."""
    with contextlib.ExitStack() as running:
        node, kafka = running.enter_context(rabbitmq()), running.enter_context(kafka_broker())
        settings = {"CLOUDMATCH_NATS_URL": bus, "CLOUDMATCH_AMQP_URL": node.url, **kafka.settings}
        names = ("journal", "bridge-rabbit", "analytics")
        services = [running.enter_context(service(name, settings, deadline=40)) for name in names]
        for each in services:
            each.process.signal(signal.SIGSTOP)
        node.kill()
        yield
        for each in services:
            each.kill()


def _relay(progress: Progress, quick: bool) -> list[Row]:
    """Load two relays in alternation: one without consumers of facts, one with frozen consumers."""
    repetitions, seconds = (1, 1.5) if quick else (REPETITIONS, SECONDS)
    task = progress.add_task("relay beside frozen consumers", total=2 * repetitions)
    with (
        tempfile.TemporaryDirectory() as build,
        stack() as alone,
        stack() as beside,
        _frozen_consumers(beside.bus),
    ):
        program = generator.build(Path(build))
        others: list[float] = []

        def rate(of: Stack, app: str) -> float:
            run = generator.run(program, of.ports, of.pids, RELAY.options, app=app, warmup=1, seconds=seconds)
            progress.advance(task)
            others.append(run.other_cores)
            return valid(RELAY, run).payloads_per_second

        rates = [(rate(alone, f"alone-{i}"), rate(beside, f"beside-{i}")) for i in range(repetitions)]
    ratio = median(frozen / free for free, frozen in rates)
    met = None if quick else ratio >= RATIO
    return [
        Row("analytics", f"relay {RELAY}, no consumers", median(r for r, _ in rates), "payloads/s"),
        Row("analytics", "the same beside frozen consumers", median(r for _, r in rates), "payloads/s"),
        Row("analytics", "ratio of the two, median", ratio, "×", f"≥ {RATIO}", met),
        Row("analytics", "other processes, at most", max(others), "cores"),
    ]
