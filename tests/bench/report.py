"""The generator's measurements, and their medians and spread over repetitions."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import msgspec

GENERATOR = "generator"
BOTTLENECK = 0.9  # of a core; above it the generator measures itself
QUIET = 0.1  # cores; if other processes use more, the figures are noisy
LATE = 0.2  # of the p99 latency; above it the generator measures itself


class Times(msgspec.Struct, frozen=True):
    """Percentiles, µs."""

    p50: float
    p99: float
    p999: float
    max: float


class Check(msgspec.Struct, frozen=True):
    """What became of the payloads, warm-up included."""

    sent: int
    received: int
    lost: int  # not received within a time after the last was sent
    repeated: int
    reordered: int  # received after one with a higher number
    damaged: int


class ProcessUse(msgspec.Struct, frozen=True):
    """CPU time and memory of a process in the measuring window."""

    cores: float  # CPU time per time
    rss_before_kib: int  # before the first connection
    rss_kib: int
    cpu_us: float = 0.0  # per payload


class Run(msgspec.Struct, frozen=True):
    """One run of the generator, as it reports it; without `latency_us` and `check` if it sent nothing."""

    valid: bool
    connections: int
    seconds: float
    processes: dict[str, ProcessUse]
    other_cores: float = 0.0  # cores used by processes that are not measured
    payloads: int = 0
    payloads_per_second: float = 0.0
    latency_us: Times | None = None  # from when a payload was due until it was read
    lateness_us: Times | None = None  # open loop: from when it was due until it was written
    check: Check | None = None
    opening_us: Times | None = None  # from connecting until a device can send and receive
    reconnects: int = 0  # lost connections that were restored


def decode_run(text: bytes) -> Run:
    """Decode the output of the generator.

    Raises:
        ValueError: it is something else.
    """
    return msgspec.json.decode(text, type=Run)


class Summary(NamedTuple):
    """Several runs of one shape: medians and spread."""

    rate: float  # payloads/s
    spread: float  # (largest - smallest) / median of the rates
    p50: float  # µs
    p99: float  # µs
    p999: float  # µs
    cpu_us: dict[str, float]  # per payload, by process
    cost_spread: float  # (largest - smallest) / median of the servers' CPU time per payload
    cores: dict[str, float]  # busy, by process
    other_cores: float  # used by other processes; the most of any run
    lateness: float  # p99 in µs; 0 in closed loop

    @property
    def servers_us(self) -> float:
        """CPU-µs per payload over all processes except the generator."""
        return sum(us for name, us in self.cpu_us.items() if name != GENERATOR)

    def caveats(self, *, other_cores: bool = True) -> list[str]:
        """Reasons to distrust these figures, a few words each."""
        found = []
        if self.cores.get(GENERATOR, 0) > BOTTLENECK:
            found.append(f"the generator is the bottleneck: {self.cores[GENERATOR]:.0%} of a core")
        if self.lateness > LATE * self.p99:
            found.append(f"the generator sent late: p99 {self.lateness / 1000:.1f} ms")
        if other_cores and self.other_cores > QUIET:
            found.append(f"other processes used {self.other_cores:.2f} cores")
        return found


def summarise(runs: Sequence[Run]) -> Summary:
    """Summarise runs of one shape."""
    rates = [run.payloads_per_second for run in runs]
    latencies = [run.latency_us for run in runs if run.latency_us is not None]
    late = [run.lateness_us.p99 for run in runs if run.lateness_us is not None]
    names = runs[0].processes
    costs = [sum(use.cpu_us for name, use in run.processes.items() if name != GENERATOR) for run in runs]
    return Summary(
        rate=median(rates),
        spread=(max(rates) - min(rates)) / median(rates),
        p50=median(latency.p50 for latency in latencies),
        p99=median(latency.p99 for latency in latencies),
        p999=median(latency.p999 for latency in latencies),
        cpu_us={name: median(run.processes[name].cpu_us for run in runs) for name in names},
        cost_spread=(max(costs) - min(costs)) / median(costs) if median(costs) else 0.0,
        cores={name: median(run.processes[name].cores for run in runs) for name in names},
        other_cores=max(run.other_cores for run in runs),
        lateness=median(late) if late else 0.0,
    )
