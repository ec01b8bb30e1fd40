"""Shared by the facts benchmarks: publishing in bulk, and sampling the resources that processes use."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress, TaskID

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import DeliveriesCounted, PayloadsDelivered, encode
from harness import Service

DEVICES = 2000
ACK_INTERVAL = 2000  # facts per JetStream ack waited for; the server may drop what is published faster
BATCHES_PER_ACK = 200  # the same, of batches of spans
SAMPLE_INTERVAL = 0.05  # s
TICK = os.sysconf("SC_CLK_TCK")


async def fill(bus: Bus, count: int, sizes: Sequence[int], advance: Callable[[int], None]) -> None:
    """Publish `count` facts of delivered payloads between `DEVICES` devices; return once all are stored."""
    at = time.time_ns() // 1_000_000
    devices = itertools.cycle(range(0, DEVICES, 2))
    for number, device in zip(range(1, count + 1), devices, strict=False):
        sender, receiver = f"device-{device}", f"device-{device + 1}"
        fact = PayloadsDelivered(
            app="bench", at=at, match=device + 1, sender=sender, receiver=receiver, sizes=list(sizes)
        )
        subject, payload = subjects.ev(fact.app, fact.kind, fact.primary_device), encode(fact)
        if number % ACK_INTERVAL and number < count:
            assert bus.publish(subject, payload)
        else:
            await bus.jetstream().publish(subject, payload, timeout=30)
            advance(number % ACK_INTERVAL or ACK_INTERVAL)


async def fill_batches(bus: Bus, count: int, spans: int, advance: Callable[[int], None]) -> None:
    """Publish `count` facts of `spans` spans of two payloads each; return once all are stored."""
    at = time.time_ns() // 1_000_000
    directions = itertools.cycle(range(0, DEVICES, 2))
    first = -2
    for number in range(1, count + 1):
        batch = []
        for device in itertools.islice(directions, spans):
            first += 2 * (device == 0)  # all directions have had as many
            batch.append(span(f"device-{device}", f"device-{device + 1}", device + 1, first, [64, 64]))
        fact = DeliveriesCounted(
            app="bench", at=at, source="edge-0", incarnation=1, number=number, spans=batch
        )
        subject, payload = subjects.ev(fact.app, fact.kind, fact.primary_device), encode(fact)
        if number % BATCHES_PER_ACK and number < count:
            assert bus.publish(subject, payload)
        else:
            await bus.jetstream().publish(subject, payload, timeout=30)
            advance(number % BATCHES_PER_ACK or BATCHES_PER_ACK)


class Use(NamedTuple):
    """The resources that a process has used so far."""

    cpu: float  # s
    memory: float  # MiB resident


def use(pid: int) -> Use:
    """Sample a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    cpu = (int(fields[11]) + int(fields[12])) / TICK
    return Use(cpu, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def busy() -> float:
    """Return the CPU time of the whole machine so far, s over all cores."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq))) / TICK


class Sample(NamedTuple):
    """A sample of a service at work."""

    at: float  # s
    done: float  # events, by its metric
    uses: dict[str, Use]  # by process
    busy: float = 0.0  # CPU time of the whole machine, s


class Samples(list[Sample]):
    """Samples of a service, oldest first."""

    def span(self, first: float, last: float) -> "Span":
        """Return the span between the first samples with at least `first` and `last` events.

        If both are the same sample, the span begins with the previous one.
        """
        end = next(number for number, sample in enumerate(self) if number and sample.done >= last)
        begin = next(number for number, sample in enumerate(self) if sample.done >= first)
        return Span(self[min(begin, end - 1)], self[end])


class Span(NamedTuple):
    """The difference between two samples."""

    begin: Sample
    end: Sample

    @property
    def rate(self) -> float:
        """Events per second."""
        return (self.end.done - self.begin.done) / (self.end.at - self.begin.at)

    @property
    def other_cores(self) -> float:
        """Cores used by other processes, sampling included."""
        measured = sum(self.end.uses[name].cpu - use.cpu for name, use in self.begin.uses.items())
        return (self.end.busy - self.begin.busy - measured) / (self.end.at - self.begin.at)

    def cpu_us(self, process: str) -> float:
        """CPU time of a process per event, µs."""
        seconds = self.end.uses[process].cpu - self.begin.uses[process].cpu
        return seconds * 1e6 / (self.end.done - self.begin.done)


async def watch(
    service: Service,
    metric: str,
    upto: float,
    pids: dict[str, int],
    bar: Progress,
    task: TaskID,
    interval: float = SAMPLE_INTERVAL,
) -> Samples:
    """Sample a service from its first event until its metric reaches `upto`; a sample costs it some CPU time.

    The first sample is made before the service is asked: it may be done by the time it answers.
    """

    def sample(done: float) -> Sample:
        return Sample(time.monotonic(), done, {name: use(pid) for name, pid in pids.items()}, busy())

    samples = Samples([sample(0.0)])
    done = 0.0
    while done < upto:
        done = await asyncio.to_thread(service.metric, metric)
        samples.append(sample(done))
        bar.update(task, completed=done)
        await asyncio.sleep(interval)
    return samples
