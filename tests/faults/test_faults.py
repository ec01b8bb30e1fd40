"""Short runs of ``make test-faults``."""

import asyncio

import pytest

from faults import report
from faults.nemesis import Dialect, Kind
from faults.run import Options, Progress, run

# Seeds whose few faults include the important kinds.
CLASSIC = Options(seed=6856, faults=5, pairs=10, rate=1000, dialect=Dialect.CLASSIC)
V1 = Options(seed=22142, faults=6, pairs=10, rate=800, dialect=Dialect.V1, counting=True)


class Lines(Progress):
    """Printed, so that pytest shows it with a failure."""

    def log(self, line: str) -> None:
        print(line)  # noqa: T201  # the same


def test_the_short_schedules_include_faults_of_every_sort() -> None:
    classic, v1 = ({f.kind for step in each.steps for f in step.faults} for each in (CLASSIC, V1))
    assert {Kind.KILL_WORKER, Kind.FREEZE_WORKER, Kind.NO_WORKER, Kind.TRACER} <= classic
    assert {Kind.KILL_EDGE, Kind.STOP_EDGE, Kind.DROP, Kind.CUT_EDGE, Kind.KILL_WORKER} <= v1
    assert any(kind.of_nats for kind in v1)


@pytest.mark.servers
@pytest.mark.timeout(300)  # claims and windows wait, once everything has arrived
@pytest.mark.parametrize("options", [CLASSIC, V1], ids=lambda options: str(options.dialect))
async def test_payloads_arrive_exactly_once_and_in_order_whichever_process_dies(
    options: Options,
) -> None:
    result = await run(options, asyncio.Event(), Lines())
    print(f"seed {options.seed}\n{report.markdown(result)}\n{report.summary(result)}")  # noqa: T201  # the same
    assert not result.problems
    assert result.total.lost == 0
    assert result.total.duplicated == 0
    assert result.total.out_of_order == 0
    assert result.total.corrupted == 0
    assert result.received == result.total.sent > 4000
    assert 0 < result.bytes_in_facts <= result.bytes_received
    assert result.faults >= options.faults
    assert result.resumed > 5 or options.dialect is Dialect.CLASSIC
