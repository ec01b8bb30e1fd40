"""One run: a workload on the stack while the nemesis injects faults, then the check."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.follower import Delivery, Follower
from cloudmatch_bus.client.settings import NatsSettings
from faults.checker import Count, sum_by_name
from faults.counting import Counting, counting
from faults.devices import ClassicDevice, V1Device
from faults.link import Link
from faults.nemesis import Dialect, Fault, Kind, Step, schedule
from faults.stack import Stack, stack
from faults.workload import Workload
from harness.facts import Books

BEFORE = "(before the first fault)"
COUNTING_TIMEOUT = 35.0  # s without a change after which sums count as final: claims wait for 15
FACTS_TIMEOUT = 15.0  # s without a further fact after which all have arrived


@dataclass(frozen=True)
class Options:
    """What to run."""

    seed: int
    faults: int = 100
    pairs: int = 20
    rate: float = 3000  # payloads per second, in total
    kinds: tuple[Kind, ...] = ()  # (): all that devices of the dialect survive
    dialect: Dialect = Dialect.V1
    counting: bool = False  # whether journal, bridge, RabbitMQ and analytics run, too

    @property
    def steps(self) -> list[Step]:
        """The faults to inject."""
        return schedule(self.seed, self.faults, self.dialect, self.kinds)


@dataclass
class Result:
    """The result of a run."""

    rows: dict[str, tuple[int, Count]] = field(default_factory=dict)  # name → steps, counts
    total: Count = field(default_factory=Count)
    faults: int = 0
    seconds: float = 0.0  # of sending
    received: int = 0
    bytes_received: int = 0  # by devices
    bytes_in_facts: int = 0
    sums: dict[str, int] = field(default_factory=dict)  # bytes by who counted them
    unaccounted: int = 0  # payloads whose sizes nobody knows: both edges of their match were killed
    edges_killed: int = 0  # facts that they had not published are lost
    resumed: int = 0  # how often devices resumed their session
    problems: list[str] = field(default_factory=list)  # any other violation

    @property
    def valid(self) -> bool:
        """Whether the delivery guarantee held."""
        return not self.total.violations and not self.problems


class Progress:
    """Shows the progress of a run. Does nothing; a terminal does more."""

    def log(self, line: str) -> None:
        """Show an event."""

    def on_step(self, faults: int, workload: Workload) -> None:
        """Show how many faults have been injected."""


async def run(options: Options, stop: asyncio.Event, progress: Progress) -> Result:
    """Inject all faults, or those until `stop`, and check what has happened by then."""
    result = Result()
    progress.log("starting three NATS nodes, three edges and three workers")
    try:
        async with (
            stack() as under_test,
            Link(under_test.ports) as balancer,
            contextlib.AsyncExitStack() as more,
        ):
            counters = await more.enter_async_context(counting(under_test.bus)) if options.counting else None
            await _run(options, stop, progress, under_test, balancer, result, counters)
    except AssertionError as error:  # by the harness: a log holds a traceback, a process did not end
        result.problems.append("\n".join([str(error), *getattr(error, "__notes__", ())]))
    return result


async def _run(
    options: Options,
    stop: asyncio.Event,
    progress: Progress,
    under_test: Stack,
    balancer: Link,
    result: Result,
    counters: Counting | None,
) -> None:
    kind = ClassicDevice if options.dialect is Dialect.CLASSIC else V1Device
    workload = Workload(options.pairs, options.rate, options.seed, kind)
    names = [BEFORE]
    try:
        urls = [edge.url for edge in under_test.edges]
        if options.dialect is Dialect.V1:
            urls = [f"http://127.0.0.1:{balancer.port}"]
        await workload.connect(urls)
        workload.start()
        began = time.monotonic()
        for step in options.steps:
            await _pause(stop, step.gap)
            if stop.is_set():
                break
            names.append(step.name)
            result.faults += len(step.faults)
            progress.log(f"{time.monotonic():.2f} {' + '.join(map(str, step.faults))}")
            workload.checker.start_span()
            progress.on_step(result.faults, workload)
            result.edges_killed += sum(fault.kind is Kind.KILL_EDGE for fault in step.faults)
            await _inject(under_test, workload, step)
        await _pause(stop, 2.0)
        progress.log("waiting for payloads in flight")
        result.seconds = time.monotonic() - began
        await workload.finish()
        result.problems += workload.problems()
    finally:
        spans = workload.checker.spans
        result.rows = sum_by_name(list(zip(names, spans, strict=True)))
        for span in spans:
            result.total.add(span)
        result.received, result.bytes_received = workload.received, workload.bytes_received
        result.resumed = workload.resumed
    await workload.close()  # ends all matches: only then everything is counted or claimed
    progress.log("reading the facts")
    await _check_facts(under_test, result)
    if counters is not None:
        progress.log("waiting for journal, RabbitMQ and windows")
        await _check_sums(counters, workload, result)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _inject(under_test: Stack, workload: Workload, step: Step) -> None:
    def work(fault: Fault) -> Coroutine[Any, Any, None]:
        if fault.kind is Kind.DROP:
            return workload.drop_connections(*fault[1:])
        return under_test.inject(fault)

    async with asyncio.TaskGroup() as group:
        for fault in step.faults:
            group.create_task(work(fault))


async def _check_facts(under_test: Stack, result: Result) -> None:
    """Sum up the delivered bytes of all facts and compare them with those that devices received."""
    done = asyncio.Event()
    books = Books()
    last = time.monotonic()

    async def add(deliveries: list[Delivery]) -> None:
        nonlocal last
        last = time.monotonic()
        for delivery in deliveries:
            books.fold(delivery.position, delivery.fact)
        result.bytes_in_facts = books.bytes_delivered

    bus = await connect(NatsSettings(url=under_test.cluster.url, replicas=3), "checker")
    reading = asyncio.create_task(Follower(bus).run(add, 0, done))
    while result.bytes_in_facts != result.bytes_received and time.monotonic() - last < FACTS_TIMEOUT:  # noqa: ASYNC110  # also when nothing arrives
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # for facts that should not arrive
    done.set()
    await reading
    await bus.close()
    if books.counted_twice:
        result.problems.append(f"{books.counted_twice} payloads were counted twice")
    if not (
        result.bytes_in_facts == result.bytes_received
        or (result.edges_killed and 0 < result.bytes_in_facts < result.bytes_received)
    ):
        result.problems.append(
            f"devices received {result.bytes_received} bytes, facts account for {result.bytes_in_facts}"
        )


async def _check_sums(counters: Counting, workload: Workload, result: Result) -> None:
    """Compare what journal, RabbitMQ and windows have counted with the bytes that devices received."""
    names = sorted({device.name for device in workload.devices})
    sums, journal = await counters.settled(names, result.bytes_received, COUNTING_TIMEOUT)
    result.sums, result.unaccounted = sums, counters.unaccounted
    if twice := counters.counted_twice:
        result.problems.append(f"{twice} payloads were counted twice")
    if result.received - journal != result.unaccounted:
        result.problems.append(
            f"devices received {result.received} payloads, the journal counted {journal} "
            f"and says that nobody could count {result.unaccounted}"
        )
    if len({*sums.values(), result.bytes_in_facts}) > 1 or (
        not result.unaccounted and result.bytes_in_facts != result.bytes_received
    ):
        result.problems.append(f"devices received {result.bytes_received} bytes, others counted {sums}")
