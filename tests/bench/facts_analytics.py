"""Throughput and cost of analytics, and the effect of stopped consumers on the relay."""

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import aio_pika
from rich.progress import Progress

from bench import generator
from bench.facts import Row
from bench.load_facts import ACK_INTERVAL, DEVICES, watch
from bench.relay import valid
from bench.shapes import parse
from bench.stack import Stack, stack
from cloudmatch_bus.contract import amqp
from cloudmatch_bus.contract.amqp import SizeMessage
from harness import eventually, kafka_broker, rabbitmq, service, source_of

SIZES, QUICK = 200_000, 20_000
GOAL = 10_000  # sizes/s
RAMP = 0.1  # share of the sizes left out at the beginning
GROWTH = 16  # MiB by which memory may grow after the ramp
TIME_SPAN = 20_000  # ms covered by the times of the sizes
RELAY = parse("50x8:64")
REPETITIONS, SECONDS = 5, 4.0
RATIO = 0.97


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Let analytics count a full queue; then load a relay with and without frozen consumers."""
    return [*await _count(progress, quick), *_relay(progress, quick)]


async def _count(progress: Progress, quick: bool) -> list[Row]:
    total = QUICK if quick else SIZES
    task = progress.add_task("analytics: filling RabbitMQ", total=total)
    with rabbitmq() as node, kafka_broker() as kafka:
        await _fill(node.url, total, lambda done: progress.update(task, completed=done))
        progress.reset(task, total=total, description="analytics: sizes")
        settings = {"CLOUDMATCH_AMQP_URL": node.url, **kafka.settings}
        with service("analytics", settings, ready=False) as analytics:
            source = await eventually(lambda: source_of(analytics), 30, "the source")
            assert source
            pids = {
                "source": source,
                "analytics": analytics.process.pid,
                "analytics-broker": kafka.process.pid,
                "rabbitmq": node.process.pid,
            }
            metric = "cloudmatch_analytics_counted_total"
            samples = await watch(analytics, metric, total, pids, progress, task)

            def summed() -> bool:
                windows = analytics.get_json("/windows?size=10s&last=100")
                return sum(window["messages"] for window in windows) == total

            await eventually(summed, 30, "all sizes in closed windows")
    span = samples.span(RAMP * total, total)
    grown = {n: span.end.uses[n].memory - span.begin.uses[n].memory for n in ("source", "analytics")}
    return [
        Row(
            "analytics",
            "counted in windows",
            span.rate,
            "sizes/s",
            f"≥ {GOAL:,}",
            None if quick else span.rate >= GOAL,
        ),
        *(Row("analytics", f"CPU of {name}", span.cpu_us(name), "µs/size") for name in pids),
        Row("analytics", "other processes", span.other_cores, "cores"),
        *(Row("analytics", f"memory of {n}", span.end.uses[n].memory, "MiB") for n in grown),
        *(
            Row("analytics", f"growth of {n}", mib, "MiB", f"≤ {GROWTH}", mib <= GROWTH)
            for n, mib in grown.items()
        ),
    ]


async def _fill(url: str, total: int, done: Callable[[int], None]) -> None:
    """Publish sizes of `DEVICES` devices; return once all are in the queue."""
    begin = time.time_ns() // 1_000_000 - TIME_SPAN
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await amqp.declare(channel, "classic")
        underlay = await channel.get_underlay_channel()
        for number in range(total):
            sender, at = f"device-{number % DEVICES}", begin + number * TIME_SPAN // total
            size = SizeMessage(64, "bench", sender, "x", 7, at, f"{number}.0").encode()
            message = aio_pika.Message(
                size.body,
                message_id=size.message_id,
                timestamp=size.timestamp,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                headers=size.headers,
            )
            await underlay.basic_publish(
                size.body,
                exchange=amqp.EXCHANGE,
                routing_key=size.routing_key,
                properties=message.properties,
                wait=number % 100 == 0,  # drain the socket from time to time
            )
            if number % ACK_INTERVAL == 0:
                done(number)

        async def queued() -> bool:
            queue = await channel.declare_queue(amqp.QUEUE, passive=True)
            return queue.declaration_result.message_count == total

        await eventually(queued, 60, "all sizes in the queue")


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
