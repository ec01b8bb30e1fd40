"""Throughput, cost and latency of the bridge to RabbitMQ."""

import time
from statistics import median

from rich.progress import Progress

from bench.facts import Row
from bench.load_facts import fill, watch
from harness import eventually, nats_server, rabbitmq, service
from harness.amqp import arriving
from harness.facts import facts

SIZES = (64, 64)
FACTS = 100_000
QUICK = 5_000
SINGLE = 50  # sizes sent one at a time
RAMP = 0.1  # share of the sizes left out at the beginning and at the end


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Let the bridge publish sizes without a consumer, then single sizes with one."""
    count = QUICK if quick else FACTS
    total = count * len(SIZES)
    task = progress.add_task("bridge: facts", total=count)
    with nats_server() as nats, rabbitmq() as node:
        async with facts(nats.url) as bus:
            await fill(bus.bus, count, SIZES, lambda done: progress.advance(task, done))
            progress.reset(task, total=total, description="bridge: sizes")
            settings = {"CLOUDMATCH_NATS_URL": nats.url, "CLOUDMATCH_AMQP_URL": node.url}
            with service("bridge-rabbit", settings, ready=False) as bridge:
                pids = {
                    "bridge-rabbit": bridge.process.pid,
                    "rabbitmq": node.process.pid,
                    "nats-server": nats.process.pid,
                }
                metric = "cloudmatch_bridge_rabbit_confirmed_total"
                samples = await watch(bridge, metric, total, pids, progress, task)
                node.control("purge_queue", "cloudmatch.bytes.analytics")
                progress.reset(task, total=SINGLE, description="bridge: one at a time")
                waits = []
                async with arriving(node.url) as messages:
                    for _ in range(SINGLE):
                        messages.clear()
                        begun = time.monotonic()
                        bus.payloads(64)
                        await eventually(lambda: messages, 10)
                        waits.append(time.monotonic() - begun)
                        progress.advance(task)
    span = samples.span(RAMP * total, (1 - RAMP) * total)
    return [
        Row("bridge", "published and confirmed", span.rate, "sizes/s"),
        *(Row("bridge", f"CPU of {name}", span.cpu_us(name), "µs/size") for name in pids),
        Row("bridge", "other processes", span.other_cores, "cores"),
        Row("bridge", "memory", span.end.uses["bridge-rabbit"].memory, "MiB"),
        Row("bridge", "single size, from fact to consumer, median", median(waits) * 1000, "ms"),
    ]
