"""A short run of what ``make test-faults`` does for minutes."""

import asyncio

import pytest

from faults import report
from faults.plan import Kind, plan
from faults.run import Options, Progress, run

# A seed whose few faults hold one of each sort: workers, NATS, a link, a subscriber that hides the loss.
OPTIONS = Options(seed=12620, faults=8, pairs=12, rate=1000)


class Lines(Progress):
    """What pytest shows with a failure."""

    def say(self, sentence: str) -> None:
        print(sentence)  # noqa: T201  # the same


def test_the_short_plan_holds_faults_of_every_sort() -> None:
    kinds = {fault.kind for step in plan(OPTIONS.seed, OPTIONS.faults) for fault in step.faults}
    assert {Kind.KILL_WORKER, Kind.FREEZE_WORKER, Kind.NO_WORKER, Kind.TRACER} <= kinds
    assert any(kind.of_nats for kind in kinds)
    assert kinds & {Kind.CUT_WORKER, Kind.CUT_EDGE}


@pytest.mark.servers
async def test_payloads_arrive_exactly_once_and_in_order_whatever_dies_in_the_middle() -> None:
    result = await run(OPTIONS, asyncio.Event(), Lines())
    print(f"seed {OPTIONS.seed}\n{report.markdown(result)}\n{report.summary(result)}")  # noqa: T201  # the same
    assert not result.complaints
    assert result.total.lost == 0
    assert result.total.twice == 0
    assert result.total.out_of_order == 0
    assert result.total.corrupted == 0
    assert result.heard == result.total.sent > 5000
    assert result.bytes_told == result.bytes_heard > 0
    assert result.faults >= OPTIONS.faults
