"""What counting costs beside carrying: a whole system under load, from sockets into windows.

Each load runs on two systems in turn: one counts (journal, bridge, RabbitMQ, analytics), one has nobody that
reads the facts of its edges. The lag is the time from the end of the load until everything that was delivered
is counted.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from bench import generator
from bench.facts import Row
from bench.load_facts import use
from bench.relay import valid
from bench.report import Run
from bench.shapes import Shape, parse
from bench.stack import Stack, stack
from harness import Service, kafka_broker, rabbitmq, service, source_of

SECONDS, QUICK_SECONDS = 60.0, 1.5
WARMUP = 2.0  # s
PATIENCE = 900.0  # s for the counting to catch up
POLL = 0.1  # s
LAG = 2.0  # s, at most
COUNTED = "cloudmatch_analytics_counted_total"  # by analytics
SINGLES = "cloudmatch_bridge_rabbit_singles_total"  # by the bridge


class Load(NamedTuple):
    """A load and its goals."""

    shape: Shape
    cost: float  # CPU-µs of all counting per payload, at most
    ratio: float  # of the rate, counted to uncounted, at least
    singles: bool = False  # whether every size is also a message of its own

    @property
    def title(self) -> str:
        """The load in words."""
        return f"{self.shape.title}{', singles' if self.singles else ''}"


LOADS = (
    Load(parse("50x64:64"), 0.5, 0.85),
    Load(parse("50@20000:64"), 5, 0.95),
    Load(parse("1000@20000:64"), 12, 0.95),
    Load(parse("50@10000:64"), 60, 0.95, singles=True),
)


class Counting(NamedTuple):
    """A system that counts."""

    relay: Stack
    bridge: Service
    analytics: Service
    pids: dict[str, int]  # of the processes that count, by name

    def counts(self, *, singles: bool) -> dict[str, float]:
        """How many payloads were counted so far, in windows and perhaps as singles."""
        counts = {"windows": self.analytics.metric(COUNTED)}
        if singles:
            counts["singles"] = self.bridge.metric(SINGLES)
        return counts


async def measure(progress: Progress, quick: bool) -> list[Row]:
    """Measure all loads."""
    task = progress.add_task("whole system", total=2 * len(LOADS))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as build:
        program = generator.build(Path(build))
        for singles in (False, True):
            loads = [load for load in LOADS if load.singles is singles]
            with stack() as alone, _counting(singles=singles) as counting:
                for load in loads:
                    progress.update(task, description=f"stack: {load.title}")
                    rows += _measure(program, load, alone, counting, quick=quick)
                    progress.advance(task, 2)
    return rows


@contextlib.contextmanager
def _counting(*, singles: bool) -> Iterator[Counting]:
    with (
        stack() as relay,
        rabbitmq() as node,
        kafka_broker() as kafka,
        contextlib.ExitStack() as running,
    ):
        settings = {
            "CLOUDMATCH_NATS_URL": relay.bus,
            "CLOUDMATCH_AMQP_URL": node.url,
            "CLOUDMATCH_BRIDGE_RABBIT_SINGLES": str(singles).lower(),
            **kafka.settings,
        }
        journal, bridge, analytics = (
            running.enter_context(service(name, settings, deadline=40))
            for name in ("journal", "bridge-rabbit", "analytics")
        )
        source = source_of(analytics)
        assert source
        pids = {
            "journal": journal.process.pid,
            "bridge-rabbit": bridge.process.pid,
            "rabbitmq": node.process.pid,
            "source": source,
            "kafka": kafka.process.pid,
            "analytics": analytics.process.pid,
        }
        yield Counting(relay, bridge, analytics, pids)


def _measure(program: Path, load: Load, alone: Stack, counting: Counting, *, quick: bool) -> list[Row]:
    seconds = QUICK_SECONDS if quick else SECONDS

    def carry(by: Stack, app: str) -> Run:
        options = load.shape.options
        run = generator.run(program, by.ports, by.pids, options, app=app, warmup=WARMUP, seconds=seconds)
        return valid(load.shape, run)

    uncounted = carry(alone, f"alone-{load.shape.pairs}-{load.shape.rate}")
    before, already = {name: use(pid) for name, pid in counting.pids.items()}, counting.relay.delivered()
    counted_before = counting.counts(singles=load.singles)
    counted = carry(counting.relay, f"counted-{load.shape.pairs}-{load.shape.rate}")
    payloads = counting.relay.delivered() - already
    lags = _lags(counting, load, {what: count + payloads for what, count in counted_before.items()})
    after = {name: use(pid) for name, pid in counting.pids.items()}
    costs = {name: (after[name].cpu - before[name].cpu) * 1e6 / payloads for name in counting.pids}
    cost, ratio = sum(costs.values()), counted.payloads_per_second / uncounted.payloads_per_second

    def row(quantity: str, value: float, unit: str, goal: str = "", *, met: bool | None = None) -> Row:
        return Row("stack", f"{load.title}: {quantity}", value, unit, goal, None if quick else met)

    return [
        row("uncounted", uncounted.payloads_per_second, "payloads/s"),
        row("counted", counted.payloads_per_second, "payloads/s"),
        row("counted : uncounted", ratio, "×", f"≥ {load.ratio:g}", met=ratio >= load.ratio),
        *(row(f"lag of {what}", lag, "s", f"≤ {LAG:g}", met=lag <= LAG) for what, lag in lags.items()),
        row("all counting", cost, "µs/size", f"≤ {load.cost:g}", met=cost <= load.cost),
        *(row(f"CPU of {name}", each, "µs/size") for name, each in costs.items()),
        *(row(f"memory of {name}", each.memory, "MiB") for name, each in after.items()),
    ]


def _lags(counting: Counting, load: Load, awaited: dict[str, float]) -> dict[str, float]:
    """Wait until all counts are as high as awaited; return how long each took, in s."""
    began = time.monotonic()
    lags: dict[str, float] = {}
    while len(lags) < len(awaited) and time.monotonic() - began < PATIENCE:
        for what, count in counting.counts(singles=load.singles).items():
            if what not in lags and count >= awaited[what]:
                lags[what] = time.monotonic() - began
        time.sleep(POLL)
    return {what: lags.get(what, float("inf")) for what in awaited}
