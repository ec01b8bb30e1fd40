"""Analytics keeps its sums whatever process dies, on real servers."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

import harness
from harness import children, eventually, source_of
from harness.analytics import Publisher, publishing, sums

CLOSES = 30  # s within which a 10 s window must close


@pytest.fixture
async def publisher(amqp_url) -> AsyncIterator[Publisher]:
    async with publishing(amqp_url) as made:
        yield made


@pytest.fixture
def analytics(kafka_broker, amqp_url, publisher, start):
    """Analytics, ready."""
    return start("analytics", settings(amqp_url, kafka_broker), deadline=60)


def settings(amqp_url, broker):
    return {"CLOUDMATCH_AMQP_URL": amqp_url, **broker.settings}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_restart_loses_nothing_and_counts_nothing_twice(analytics, publisher):
    for ago in range(100):
        await publisher.size(1, ago=ago)
    await eventually(lambda: analytics.metric("cloudmatch_analytics_counted_total") == 100, 20)
    own = children(analytics.process.pid)
    assert len(own) == 2  # the source, and Python's resource tracker
    await asyncio.to_thread(analytics.terminate)
    assert analytics.process.returncode == 0
    await eventually(lambda: not [pid for pid in own if alive(pid)], 10)  # the resource tracker ends last

    for ago in range(200, 100, -1):  # a backlog: older than before, newest last
        await publisher.size(1, ago=ago)
    await asyncio.to_thread(analytics.restart, deadline=60)
    await eventually(lambda: sums(analytics) == (200, 200), CLOSES)


@contextlib.asynccontextmanager
async def flow(publisher, rate=300):
    """Publish sizes continuously, batched and single, some twice; yields the bytes and payloads so far."""
    sent = [0, 0]
    numbers = itertools.count()
    over = asyncio.Event()

    async def publish():
        while not over.is_set():
            number = next(numbers)
            amount, sender = number % 90, f"d{number % 7}"
            if number % 3:
                sizes = {sender: [amount, 1], f"d{(number + 1) % 7}": [amount]}
                at = await publisher.batch(sizes, message_id=f"{number}")
                if number % 50 == 1:
                    await publisher.batch(sizes, message_id=f"{number}", at=at)
                sent[0] += 2 * amount + 1
                sent[1] += 3
            else:
                at = await publisher.size(amount, sender=sender, message_id=f"{number}.0")
                if number % 50 == 0:
                    await publisher.size(amount, sender=sender, message_id=f"{number}.0", at=at)
                sent[0] += amount
                sent[1] += 1
            await asyncio.sleep(1 / rate)

    task = asyncio.create_task(publish())
    try:
        yield sent
    finally:
        over.set()
        await task


async def agree(service, sent):
    """Return once the sums are what was sent; a failure shows how they differ."""
    try:
        await eventually(lambda: sums(service) == tuple(sent), CLOSES)
    except AssertionError as error:
        error.add_note(f"sent {sent}, sums {sums(service)}")
        raise


async def counts(service):
    """Return once the service counts sizes, perhaps again."""
    before = service.metric("cloudmatch_analytics_counted_total")
    await eventually(lambda: service.metric("cloudmatch_analytics_counted_total") > before + 20, 30)


async def test_sums_are_exact_after_sigkill_of_source_or_both_at_any_moment(analytics, publisher):
    chance = random.Random(2019)  # noqa: S311 # no secret
    async with flow(publisher) as sent:
        for victims in ("source", "both"):
            await counts(analytics)
            await asyncio.sleep(chance.random() / 2)  # at any moment between two commits
            own = source_of(analytics)
            assert own
            os.kill(own, signal.SIGKILL)
            if victims == "both":
                analytics.kill()
                await eventually(lambda own=own: not alive(own), 10)  # the source must notice on its own
                await asyncio.to_thread(analytics.restart, deadline=60)
            else:
                await eventually(lambda own=own: source_of(analytics) not in (None, own), 20)
        await counts(analytics)
    await agree(analytics, sent)
    apart = [sums(analytics, f"app=demo&device=d{i}") for i in range(7)]
    assert [sum(of) for of in zip(*apart, strict=True)] == sent


async def test_two_share_the_work_and_each_answers_for_all(
    kafka_broker, amqp_url, publisher, start, analytics
):
    second = start("analytics", settings(amqp_url, kafka_broker), deadline=60)
    both = (analytics, second)
    async with flow(publisher) as sent:
        await asyncio.gather(*map(counts, both))
        analytics.kill()
        await counts(second)
        await asyncio.to_thread(analytics.restart, deadline=60)
        await asyncio.gather(*map(counts, both))
    for each in both:
        await agree(each, sent)
    query = "/windows?last=1000&app=demo&device=d3"
    shown = [{w["start"]: w["bytes"] for w in each.get_json(query) if w["messages"]} for each in both]
    assert shown[0] == shown[1]


async def test_a_lost_folder_is_restored_from_the_broker(analytics, publisher):
    for ago in range(60, 65):
        await publisher.size(10, ago=ago)
    at = await publisher.size(10, ago=30, message_id="7.0")
    await publisher.batch({"bob": [5, 5]}, at=at, message_id="8")
    await eventually(lambda: sums(analytics) == (70, 8), 20)

    def senders() -> dict[str, int]:
        return {each["device"]: each["bytes"] for each in analytics.get_json("/senders")}

    assert senders() == {"alice": 60, "bob": 10}
    await publisher.forget("bob")
    await eventually(lambda: senders() == {"alice": 60, "": 10})
    before = analytics.get_json("/windows?last=3")
    await asyncio.to_thread(analytics.terminate)
    shutil.rmtree(analytics.folder / "run")
    await publisher.size(10, message_id="7.0", at=at)  # a redelivery: its id is still known
    await publisher.batch({"bob": [5, 5]}, at=at, message_id="8")
    await publisher.batch({"bob": [7]}, ago=100)  # from before it was forgotten
    await publisher.size(1, ago=20)
    await asyncio.to_thread(analytics.restart, deadline=60)
    await eventually(lambda: sums(analytics) == (78, 10), 20)
    assert senders() == {"alice": 61, "": 17}
    await eventually(lambda: b"bob" not in (analytics.folder / "run/analytics/slices.sqlite").read_bytes())
    assert before[0] in analytics.get_json("/windows?last=1000")


async def test_readiness_gives_the_reason_while_rabbitmq_is_unreachable(kafka_broker, own_rabbitmq, start):
    analytics = start("analytics", settings(own_rabbitmq.url, kafka_broker))
    await asyncio.to_thread(own_rabbitmq.kill)
    _, text = await eventually(lambda: (a := analytics.get("/system/readiness"))[0] == 503 and a, 20)
    assert "RabbitMQ is unreachable" in json.loads(text)["reasons"]["source"]
    await asyncio.to_thread(own_rabbitmq.restart)
    await asyncio.to_thread(analytics.wait_ready)
    analytics.terminate()


def committed(bootstrap):
    """How many records analytics has committed; watermarks make it grow continuously."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "analytics", "log_level": 0})
    offsets = consumer.committed([TopicPartition("cloudmatch.bytes", p) for p in range(4)], 5)
    consumer.close()
    return sum(max(0, each.offset) for each in offsets)


@pytest.fixture
def embedded(request):
    """Skip tests of the embedded broker where there is a real Kafka."""
    if request.config.getoption("--kafka"):
        pytest.skip("tests the embedded broker")


async def test_counting_continues_on_a_new_broker_in_place_of_the_old(
    embedded, amqp_url, publisher, start, tmp_path, request
):
    port = str(harness.free_port())

    def begin():
        command = [harness.processes.BIN / "analytics-broker"]
        made = harness.Process("broker", command, {"CLOUDMATCH_KAFKA_PORT": port}, tmp_path)
        made.wait_line(rf"listening at tcp://127.0.0.1:{port}")
        return made

    broker = begin()
    request.addfinalizer(lambda: broker.terminate())
    analytics = start("analytics", {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": port})
    await publisher.size(4, ago=60)
    await eventually(lambda: sums(analytics) == (4, 1), 20)
    before = committed(f"127.0.0.1:{port}")
    await eventually(lambda: committed(f"127.0.0.1:{port}") > before, 10)  # the size is committed
    broker.kill()
    await publisher.size(5, ago=60)
    tmp_path.joinpath("broker.log").unlink()
    broker = begin()
    await publisher.size(6, ago=60)
    await eventually(lambda: sums(analytics) == (15, 3), 30)
    analytics.terminate()
    broker.signal(signal.SIGTERM)
    assert broker.wait(10) == 0


@pytest.fixture
def real_kafka(request):
    """Skip tests of a real Kafka where there is none."""
    if not request.config.getoption("--kafka"):
        pytest.skip("needs a real Kafka")


async def test_topics_get_more_partitions_without_a_loss(
    real_kafka, analytics, publisher, kafka_broker, amqp_url, start
):
    await publisher.batch({"alice": [4]}, ago=60, message_id="0")
    await eventually(lambda: sums(analytics) == (4, 1), 20)
    await asyncio.to_thread(analytics.terminate)
    await publisher.batch({"alice": [5]}, ago=60, message_id="4096")

    analytics.env["CLOUDMATCH_ANALYTICS_PARTITIONS"] = "6"
    analytics.start(ready=False)
    await eventually(lambda: analytics.process.returncode == 1, 20, "its end")
    names = ("cloudmatch.bytes", "cloudmatch.windows", "changelog__analytics--cloudmatch.bytes--default")
    assert all(name in analytics.process.log for name in ("CLOUDMATCH_ANALYTICS_PARTITIONS=6", *names))

    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    for done in admin.create_partitions([NewPartitions(name, 6) for name in names]).values():
        done.result(10)
    await asyncio.to_thread(analytics.start, deadline=60)
    for position in range(0, 8 * 64, 64):
        await publisher.batch({"bob": [1]}, ago=60, message_id=f"{position + 1}")
    await eventually(lambda: sums(analytics) == (17, 10), CLOSES)


async def test_a_frozen_pipeline_stops_the_source_before_the_broker_drops_records(
    embedded, analytics, publisher, kafka_broker
):
    consumer = Consumer({"bootstrap.servers": kafka_broker.bootstrap, "group.id": "test", "log_level": 0})
    partition = TopicPartition("cloudmatch.bytes", 0)

    def end():
        return consumer.get_watermark_offsets(partition, 5, cached=False)[1]

    first = end()
    seen = [(first, 0.0)]  # the end, and when it was first seen

    def waits():
        if (last := end()) != seen[-1][0]:
            seen.append((last, time.monotonic()))
        return last >= first + 20 and time.monotonic() - seen[-1][1] > 2

    analytics.process.signal(signal.SIGSTOP)
    sizes = {f"device-{number}": [1] for number in range(4_000)}
    for number in range(64):  # 8 MiB of records in the same partition, which holds 5
        await publisher.batch(sizes, message_id=f"{number}", ago=30)
    await eventually(waits, 30, "the source waits")
    analytics.process.signal(signal.SIGCONT)
    await eventually(lambda: sums(analytics) == (64 * 4_000, 64 * 4_000), CLOSES)
    consumer.close()


async def test_sigterm_ends_it_at_once_while_there_is_no_broker(embedded, amqp_url, start):
    nowhere = {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": str(harness.free_port())}
    analytics = start("analytics", nowhere, ready=False)
    _, text = await eventually(lambda: (a := analytics.get("/system/readiness"))[0] == 503 and a, 20)
    assert "broker" in json.loads(text)["reasons"]["pipeline"]
    analytics.terminate()
    assert analytics.process.returncode == 0
