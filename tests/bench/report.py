"""What was measured, and what it comes to: medians and spread over repetitions."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import msgspec

GENERATOR = "generator"
BOTTLENECK = 0.9  # of a core: a generator that uses more measures itself


class Latency(msgspec.Struct, frozen=True):
    """From when a payload was due to when it was read, µs."""

    p50: float
    p99: float
    p999: float
    max: float


class Check(msgspec.Struct, frozen=True):
    """What became of the payloads, warm-up included."""

    sent: int
    received: int
    gaps: int
    repeats: int
    damaged: int
    missing: int


class ProcessUse(msgspec.Struct, frozen=True):
    """What a process used in the measuring window."""

    cores: float  # CPU time over time
    rss_before_kib: int  # before the first connection
    rss_kib: int
    cpu_us: float = 0.0  # per payload


class Run(msgspec.Struct, frozen=True):
    """One run of the generator, as it says it itself. Without `latency_us` and `check` it sent nothing."""

    valid: bool
    connections: int
    seconds: float
    processes: dict[str, ProcessUse]
    payloads: int = 0
    payloads_per_second: float = 0.0
    latency_us: Latency | None = None
    check: Check | None = None


def decode_run(text: bytes) -> Run:
    """Read what the generator printed.

    Raises:
        ValueError: it is not that.
    """
    return msgspec.json.decode(text, type=Run)


class Summary(NamedTuple):
    """Several runs of one shape: medians, and how far the rates lie apart."""

    rate: float  # payloads/s
    spread: float  # (largest - smallest) / median of the rates
    p50: float  # µs
    p99: float  # µs
    cpu_us: dict[str, float]  # per payload, by process
    cores: dict[str, float]  # busy, by process


def summarise(runs: Sequence[Run]) -> Summary:
    """Take the medians of runs of one shape."""
    rates = [run.payloads_per_second for run in runs]
    latencies = [run.latency_us for run in runs if run.latency_us is not None]
    names = runs[0].processes
    return Summary(
        rate=median(rates),
        spread=(max(rates) - min(rates)) / median(rates),
        p50=median(latency.p50 for latency in latencies),
        p99=median(latency.p99 for latency in latencies),
        cpu_us={name: median(run.processes[name].cpu_us or 0.0 for run in runs) for name in names},
        cores={name: median(run.processes[name].cores for run in runs) for name in names},
    )
