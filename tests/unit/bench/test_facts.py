"""The report of the facts benchmark, and its evaluation of samples."""

import os
from typing import cast

from rich.progress import Progress

from bench import facts
from bench.load_facts import Sample, Samples, Use, watch
from harness import Service


def sample(at: float, done: float, cpu: float, busy: float = 0) -> Sample:
    return Sample(at, done, {"journal": Use(cpu, 80)}, busy)


def test_rate_and_cost_are_those_of_the_requested_span() -> None:
    samples = Samples([sample(0, 0, 1), sample(1, 500, 1.1), sample(2, 1000, 1.2), sample(4, 2000, 1.4)])
    span = samples.span(500, 1500)
    assert (span.begin.done, span.end.done) == (500, 2000)
    assert span.rate == 500
    assert round(span.cpu_us("journal")) == 200


def test_other_cores_are_those_used_by_processes_that_are_not_measured() -> None:
    samples = Samples([sample(0, 0, 1, busy=10), sample(2, 100, 2, busy=14)])
    assert samples.span(0, 100).other_cores == 1.5


def test_a_span_within_one_sample_begins_with_the_previous_one() -> None:
    samples = Samples([sample(0, 0, 1), sample(1, 5000, 1.1), sample(2, 5000, 1.1)])
    assert samples.span(4000, 5000).rate == 5000


async def test_a_service_that_is_done_when_it_first_answers_is_measured_from_the_beginning() -> None:
    class Done:
        def metric(self, _: str) -> float:
            return 3000.0

    bar = Progress(disable=True)
    pids = {"journal": os.getpid()}
    samples = await watch(cast("Service", Done()), "events", 3000, pids, bar, bar.add_task("events"))
    span = samples.span(300, 2700)
    assert (span.begin.done, span.end.done) == (0, 3000)
    assert span.rate > 0
    assert span.cpu_us("journal") >= 0


def test_a_figure_has_three_significant_digits() -> None:
    assert [facts.number(value) for value in (0.1234, 5.678, 56.78, 5678.9)] == [
        "0.12",
        "5.68",
        "56.8",
        "5,679",
    ]


def test_the_table_has_a_row_for_each_figure() -> None:
    rows = [
        facts.Row("journal", "start", 1.2, "s", "≤ 5", met=True),
        facts.Row("bridge", "rate", 9000, "sizes/s"),
    ]
    assert facts.table(rows).row_count == 2


def test_every_part_can_be_measured() -> None:
    assert {"journal", "bridge"} <= set(facts.parts()) <= set(facts.PARTS)
