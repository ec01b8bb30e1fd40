"""Analytics counts and closes whatever its wall clock does, on real servers."""

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator

import pytest

from harness import Service, eventually
from harness.analytics import Publisher, publishing, sums
from harness.clocks import DAY, MINUTE

CLOSES = 30  # s within which a 10 s window must close
STEPS = (2.0, -10 * MINUTE, 2 * DAY, -2 * DAY, 10 * MINUTE, -2.0)


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[Publisher]:
    async with publishing(amqp_url) as made:
        yield made


def closed_until(service: Service) -> float:
    """End of the last closed window, s since 1970."""
    return max((w["end"] / 1000 for w in service.get_json("/windows?last=1")), default=0)


async def test_no_step_of_its_clock_changes_a_sum_or_closes_a_window_early_or_late(
    kafka_broker, amqp_url, publisher, start, stepped_clock
):
    clock = stepped_clock()
    analytics = start(
        "analytics", {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings, **clock.settings}, deadline=60
    )
    for sent, step in enumerate(STEPS):
        await publisher.size(4)
        clock.step(step)
        await eventually(lambda step=step: f"wall clock off by {step:+.0f} s" in analytics.process.log, 10)
        await publisher.batch({"alice": [5, 6]})
        total = 3 * sent + 3
        await eventually(lambda n=total: analytics.metric("cloudmatch_analytics_counted_total") == n, 10)
    over = time.time()
    await eventually(lambda: sums(analytics) == (15 * len(STEPS), 3 * len(STEPS)), CLOSES)
    await eventually(lambda: closed_until(analytics) >= over, CLOSES)
    assert closed_until(analytics) <= time.time()
    for metric in ("late", "too_late", "ahead", "duplicates"):
        assert analytics.metric(f"cloudmatch_analytics_{metric}_total") == 0, metric
    analytics.terminate()


async def test_what_a_wrong_clock_has_closed_is_reopened_at_the_next_start(
    kafka_broker, amqp_url, publisher, start
):
    analytics = start("analytics", {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}, deadline=60)
    await publisher.size(4, ago=20)
    await eventually(lambda: sums(analytics) == (4, 1), CLOSES)
    analytics.terminate()
    with contextlib.closing(sqlite3.connect(analytics.folder / "run/analytics/slices.sqlite")) as archive:
        archive.execute("UPDATE kept SET closed_until = closed_until + ?", (2 * DAY * 1000,))
        archive.commit()
    analytics.start(deadline=60)
    assert "windows reopened" in analytics.process.log
    await publisher.size(5, ago=20)
    await eventually(lambda: sums(analytics) == (9, 2), CLOSES)
    assert closed_until(analytics) <= time.time()
    assert analytics.metric("cloudmatch_analytics_too_late_total") == 0
    assert analytics.metric("cloudmatch_analytics_late_total") == 1
    analytics.terminate()
