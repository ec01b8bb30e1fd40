"""Analytics serves, and goes on by itself, whatever is wrong with its disk, on real servers."""

import json
import os
import resource
from collections.abc import AsyncIterator

import pytest

from harness import Service, eventually
from harness.analytics import Publisher, publishing, sums

CLOSES = 30  # s within which a 10 s window must close


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[Publisher]:
    async with publishing(amqp_url) as made:
        yield made


@pytest.fixture
def settings(amqp_url, kafka_broker) -> dict[str, str]:
    return {"CLOUDMATCH_AMQP_URL": amqp_url, **kafka_broker.settings}


def reasons(service: Service) -> dict[str, str]:
    """Why the service is not ready."""
    found: dict[str, str] = json.loads(service.get("/system/readiness")[1])["reasons"]
    return found


async def counted(service: Service, total: int, count: int) -> None:
    """Return once closed windows have these bytes and payloads."""
    await eventually(lambda: sums(service) == (total, count), CLOSES)


async def test_damaged_windows_and_state_are_put_aside_and_restored_from_kafka(publisher, settings, start):
    analytics = start("analytics", settings, deadline=60)
    at = await publisher.batch({"alice": [4, 5]}, message_id="1", ago=20)
    await counted(analytics, 9, 2)
    before = analytics.metric("cloudmatch_analytics_counted_total")
    assert before == 2
    analytics.kill()
    folder = analytics.folder / "run/analytics"
    databases = [file.parent for file in folder.rglob("CURRENT")]
    assert databases
    (folder / "slices.sqlite-wal").unlink()
    for file in [folder / "slices.sqlite", *(file for each in databases for file in each.glob("MANIFEST*"))]:
        file.write_bytes(os.urandom(file.stat().st_size))
    await publisher.batch({"alice": [4, 5]}, message_id="1", at=at)  # a redelivery
    await publisher.batch({"bob": [6]}, message_id="2", ago=20)
    analytics.start(deadline=60)
    await counted(analytics, 15, 3)
    assert len(list(folder.glob("*.damaged-*"))) >= 2
    assert analytics.process.log.count("put aside as") == 2


async def test_a_disk_that_becomes_full_stops_no_answer_and_loses_no_size(publisher, settings, start):
    analytics = start("analytics", settings, deadline=60)
    await publisher.size(4, ago=20)
    await counted(analytics, 4, 1)
    _, most = resource.prlimit(analytics.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(analytics.process.pid, resource.RLIMIT_FSIZE, (16_384, most))  # for each of its files
    await publisher.batch({f"d{number}": [1] for number in range(2_000)}, ago=20)
    await eventually(lambda: "archive" in reasons(analytics), 15, "the reason in readiness")
    assert analytics.get("/")[0] == analytics.get("/windows")[0] == 200
    await publisher.size(5, ago=20)
    resource.prlimit(analytics.process.pid, resource.RLIMIT_FSIZE, (most, most))
    await counted(analytics, 2_009, 2_002)
    await eventually(lambda: analytics.get("/system/readiness")[0] == 200, 30, "readiness")
    analytics.restart(deadline=60)
    await counted(analytics, 2_009, 2_002)


async def test_a_file_in_place_of_its_folder_is_named_until_it_is_gone(publisher, settings, start, tmp_path):
    obstacle = tmp_path / "run/analytics"
    obstacle.parent.mkdir()
    obstacle.write_text("")
    analytics = start("analytics", {**settings, "CLOUDMATCH_RUN_DIR": f"{tmp_path}/run"}, ready=False)
    await publisher.size(4, ago=20)
    await eventually(lambda: {"archive", "pipeline"} <= reasons(analytics).keys(), 20)
    await eventually(lambda: str(obstacle) in reasons(analytics)["pipeline"], 10)
    assert str(obstacle) in reasons(analytics)["archive"]
    assert analytics.get("/windows")[0] == 200
    obstacle.unlink()
    analytics.wait_ready(60)
    await counted(analytics, 4, 1)
