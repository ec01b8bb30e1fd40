"""The bench of the facts measures what it says, on a few of them."""

import pytest
from rich.progress import Progress

import harness
from bench import facts_bridge, facts_journal

pytestmark = pytest.mark.servers

# What takes no time that a clock tick shows, or is 0 on a machine that does nothing else.
MAY_BE_NOTHING = {"µs/event", "µs/size", "×", "cores"}


async def test_the_journal_is_measured_and_verified() -> None:
    rows = await facts_journal.measure(Progress(disable=True), quick=True)
    assert {row.part for row in rows} == {"journal"}
    assert {row.met for row in rows} == {None}  # of a run of seconds nothing is promised
    assert all(row.value > 0 for row in rows if row.unit not in MAY_BE_NOTHING)


async def test_the_bridge_is_measured(rabbitmq: harness.RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rabbitmq.url  # it is installed; the bench starts one of its own
    monkeypatch.setattr(facts_bridge, "QUICK", 3000)
    rows = await facts_bridge.measure(Progress(disable=True), quick=True)
    assert {row.part for row in rows} == {"bridge"}
    assert all(row.value > 0 for row in rows if row.unit not in MAY_BE_NOTHING)
