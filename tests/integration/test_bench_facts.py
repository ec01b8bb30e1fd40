"""The facts benchmark measures all its figures, here with few facts."""

import os
from pathlib import Path

import pytest
from rich.progress import Progress

import harness
from bench import facts_analytics, facts_bridge, facts_journal, facts_stack, generator
from bench.shapes import parse

pytestmark = pytest.mark.servers

# Zero if it takes less than a clock tick, or on an otherwise idle machine.
MAY_BE_ZERO = {"µs/event", "µs/size", "µs/span", "×", "cores"}


async def test_the_journal_is_measured_and_verified() -> None:
    rows = await facts_journal.measure(Progress(disable=True), quick=True)
    assert {row.part for row in rows} == {"journal"}
    assert {row.met for row in rows} == {None}  # a quick run has no goals
    assert all(row.value > 0 for row in rows if row.unit not in MAY_BE_ZERO)


async def test_the_bridge_is_measured(rabbitmq: harness.RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rabbitmq.url  # it is installed; the bench starts its own
    monkeypatch.setattr(facts_bridge, "QUICK", 3000)
    rows = await facts_bridge.measure(Progress(disable=True), quick=True)
    assert {row.part for row in rows} == {"bridge"}
    assert all(row.value > 0 for row in rows if row.unit not in MAY_BE_ZERO)


def with_generator(folder: Path) -> None:
    """Skip on a machine without a C compiler; fail there in CI."""
    try:
        generator.build(folder)
    except generator.CompilerMissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.mark.timeout(300)  # nearly everything is started twice, in sequence
async def test_analytics_and_the_relay_beside_frozen_consumers_are_measured(
    rabbitmq: harness.RabbitMQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rabbitmq.url  # it is installed; the bench starts its own
    with_generator(tmp_path)
    _, spans, singles, flow, _ = facts_analytics.LOADS
    loads = spans._replace(messages=2_000), singles._replace(messages=200_000), flow._replace(messages=10_000)
    monkeypatch.setattr(facts_analytics, "LOADS", loads)
    rows = await facts_analytics.measure(Progress(disable=True), quick=True)
    assert {row.part for row in rows} == {"analytics"}
    growth = [row for row in rows if "growth" in row.what]
    assert len(growth) == 2 * len(loads)
    assert {row.met for row in rows if row not in growth} == {None}
    assert all(row.value > 0 for row in rows if row.unit not in MAY_BE_ZERO and row not in growth)
    assert [row.value > 0 for row in rows if row.unit in ("payloads/s", "×")] == [True] * 3


@pytest.mark.timeout(300)  # nearly everything is started twice, in sequence
async def test_a_whole_system_is_measured_until_its_windows_hold_everything(
    rabbitmq: harness.RabbitMQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rabbitmq.url  # it is installed; the bench starts its own
    with_generator(tmp_path)
    monkeypatch.setattr(facts_stack, "LOADS", (facts_stack.Load(parse("4@400:64"), 1, 1),))
    rows = await facts_stack.measure(Progress(disable=True), quick=True)
    assert {row.met for row in rows} == {None}
    assert all(row.value > 0 for row in rows if row.unit not in MAY_BE_ZERO)
    assert [row.value < facts_stack.PATIENCE for row in rows if row.unit == "s"] == [True]
