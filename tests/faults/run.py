"""One run: traffic over the stack while the plan's faults happen, then the reckoning."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.consumer import Delivery, OrderedConsumer
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract.messages import PayloadsDelivered
from faults.link import Link
from faults.plan import Dialect, Fault, Kind, Step, plan
from faults.stack import Stack, stack
from faults.talkers import V1, Classic
from faults.tally import Count, by_name
from faults.traffic import Traffic

BEFORE = "(before the first fault)"
FACTS_PATIENCE = 15.0  # s without a further fact after which all are there


@dataclass(frozen=True)
class Options:
    """What to run."""

    seed: int
    faults: int = 100
    pairs: int = 20
    rate: float = 3000  # payloads per second, all together
    kinds: tuple[Kind, ...] = ()  # all that devices of the dialect can bear
    dialect: Dialect = Dialect.V1

    @property
    def plan(self) -> list[Step]:
        """What will break."""
        return plan(self.seed, self.faults, self.dialect, self.kinds)


@dataclass
class Result:
    """What came of it."""

    rows: dict[str, tuple[int, Count]] = field(default_factory=dict)  # name → steps, counts
    total: Count = field(default_factory=Count)
    faults: int = 0
    seconds: float = 0.0  # of traffic
    heard: int = 0
    bytes_heard: int = 0  # by devices
    bytes_told: int = 0  # in facts
    edges_killed: int = 0  # what these had not told yet nobody tells
    resumed: int = 0  # how often devices came back to their match
    complaints: list[str] = field(default_factory=list)  # whatever else is not as promised

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return not self.total.broken and not self.complaints


class Progress:
    """What a run tells while it goes on. Does nothing; a terminal does more."""

    def say(self, sentence: str) -> None:
        """Something happens."""

    def at(self, faults: int, traffic: Traffic) -> None:
        """So many faults have begun."""


async def run(options: Options, stop: asyncio.Event, progress: Progress) -> Result:
    """Run the plan until its end or `stop`; what has happened by then is reckoned in any case."""
    result = Result()
    progress.say("starting three NATS nodes, three edges and three workers")
    try:
        async with stack() as broken, Link(broken.ports) as balancer:
            await _run(options, stop, progress, broken, balancer, result)
    except AssertionError as error:  # by the harness: a log holds a traceback, a process did not end
        result.complaints.append("\n".join([str(error), *getattr(error, "__notes__", ())]))
    return result


async def _run(
    options: Options,
    stop: asyncio.Event,
    progress: Progress,
    broken: Stack,
    balancer: Link,
    result: Result,
) -> None:
    talker = Classic if options.dialect is Dialect.CLASSIC else V1
    traffic = Traffic(options.pairs, options.rate, options.seed, talker)
    names = [BEFORE]
    try:
        urls = [edge.url for edge in broken.edges]
        if options.dialect is Dialect.V1:
            urls = [f"http://127.0.0.1:{balancer.port}"]
        await traffic.connect(urls)
        traffic.start()
        began = time.monotonic()
        for step in options.plan:
            await _pause(stop, step.gap)
            if stop.is_set():
                break
            names.append(step.name)
            result.faults += len(step.faults)
            progress.say(f"{time.monotonic():.2f} {' + '.join(map(str, step.faults))}")
            traffic.tally.begin()
            progress.at(result.faults, traffic)
            result.edges_killed += sum(fault.kind is Kind.KILL_EDGE for fault in step.faults)
            await _inflict(broken, traffic, step)
        await _pause(stop, 2.0)
        progress.say("waiting for what is on its way")
        result.seconds = time.monotonic() - began
        await traffic.finish()
        result.complaints += traffic.changes()
    finally:
        spans = traffic.tally.spans
        result.rows = by_name(list(zip(names, spans, strict=True)))
        for span in spans:
            result.total.add(span)
        result.heard, result.bytes_heard = traffic.heard, traffic.bytes_heard
        result.resumed = traffic.resumed
    progress.say("reading the facts")
    await _facts(broken, result)
    await traffic.close()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _inflict(broken: Stack, traffic: Traffic, step: Step) -> None:
    def work(fault: Fault) -> Coroutine[Any, Any, None]:
        return traffic.drop(*fault[1:]) if fault.kind is Kind.DROP else broken.inflict(fault)

    async with asyncio.TaskGroup() as group:
        for fault in step.faults:
            group.create_task(work(fault))


async def _facts(broken: Stack, result: Result) -> None:
    """Sum up what the facts say was delivered, and compare."""
    done = asyncio.Event()
    last = time.monotonic()

    async def add(deliveries: list[Delivery]) -> None:
        nonlocal last
        last = time.monotonic()
        result.bytes_told += sum(
            sum(d.fact.sizes) for d in deliveries if isinstance(d.fact, PayloadsDelivered)
        )

    bus = await connect(NatsSettings(url=broken.cluster.url, replicas=3), "reckoning")
    reading = asyncio.create_task(OrderedConsumer(bus, "reckoning").run(add, 0, done))
    while result.bytes_told != result.bytes_heard and time.monotonic() - last < FACTS_PATIENCE:  # noqa: ASYNC110  # also when nothing comes
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # for what should not come
    done.set()
    await reading
    await bus.close()
    if not (
        result.bytes_told == result.bytes_heard
        or (result.edges_killed and 0 < result.bytes_told < result.bytes_heard)
    ):
        result.complaints.append(
            f"devices heard {result.bytes_heard} bytes, facts speak of {result.bytes_told}"
        )
