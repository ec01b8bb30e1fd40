"""Analytics from RabbitMQ to REST, with real parts."""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import pytest
from confluent_kafka import Consumer, TopicPartition

import harness
from cloudmatch_bus import amqp
from harness import eventually

CLOSES = 30  # s after which a 10 s window that has not closed never will


class Publisher:
    """Publishes sizes as bridge-rabbit does."""

    def __init__(self, channel, exchange):
        self.channel, self.exchange = channel, exchange
        self.position = 0

    async def size(self, amount, sender="alice", app="demo", ago=0.0, message_id=None, at=None):
        """Publish one size, of `ago` seconds before now; give its time."""
        self.position += 1
        at = at or time.time_ns() // 10**6 - int(1000 * ago)
        headers = {"app": app, "from": sender, "to": "bob", "match": 7, "at": at}
        await self.raw(b"%d" % amount, headers, message_id or f"{self.position}.0")
        return at

    async def raw(self, body, headers=None, message_id=None):
        """Publish a body as it is."""
        message = aio_pika.Message(
            body, headers=headers, message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        await self.exchange.publish(message, routing_key="demo.alice")


@pytest.fixture
async def publisher(amqp_url) -> AsyncIterator[Publisher]:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(amqp.EXCHANGE, "topic", durable=True)
        queue = await channel.declare_queue(
            amqp.QUEUE, durable=True, arguments=amqp.queue_arguments("classic")
        )
        await queue.bind(exchange, "#")
        yield Publisher(channel, exchange)


@pytest.fixture
def analytics(kafka_broker, amqp_url, publisher, start):
    """Analytics, ready."""
    return start("analytics", settings(amqp_url, kafka_broker))


def settings(amqp_url, broker):
    return {"CLOUDMATCH_AMQP_URL": amqp_url, **broker.settings}


def sums(service, query=""):
    """Bytes and messages of all closed windows of 10 s."""
    windows = service.get_json(f"/windows?size=10s&last=1000&{query}")
    return sum(w["bytes"] for w in windows), sum(w["messages"] for w in windows)


def sums_running(service, query):
    """Bytes and messages of the window of 10 s that runs, or of the last that closed."""
    with events(service, query) as live:
        running = next(w for kind, w in live if kind == "running")
    last = service.get_json(f"/windows?last=2&{query}")
    return max((w["bytes"], w["messages"]) for w in [running, *last])


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def events(service, query="") -> Iterator[Iterator[tuple[str, dict]]]:
    """Server-Sent Events of /windows/live as (event, data)."""
    with urllib.request.urlopen(f"{service.url}/windows/live?{query}", timeout=20) as answer:  # noqa: S310 # loopback

        def read() -> Iterator[tuple[str, dict]]:
            name = ""
            for line in answer:
                field, _, value = line.decode().strip().partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

        yield read()


async def test_four_bytes_show_in_the_window_that_closes_though_nothing_follows(analytics, publisher):
    at = await publisher.size(4)
    await eventually(lambda: sums(analytics) == (4, 1), CLOSES)
    late = time.time() - (at - at % 10_000 + 10_000) / 1000
    assert late >= 1.0  # the lag
    line = "bytes exchanged in the previous 10 seconds: 4\n"
    await eventually(lambda: line in analytics.process.log, what="the line in the log")
    assert analytics.process.log.count(line) == 1


async def test_every_size_counts_once_per_device_per_app_and_over_all(analytics, publisher):
    with events(analytics, "app=demo") as live:
        assert await asyncio.to_thread(next, live)
        at = await publisher.size(4, message_id="1.0")
        await publisher.size(4, message_id="1.0", at=at)
        await publisher.size(6, sender="bob")
        await publisher.size(50, app="other", sender="carol")
        await publisher.raw(b"900")  # as in 2019
        await publisher.raw(b"900")
        told = await asyncio.to_thread(
            lambda: next(w for kind, w in live if kind == "closed" and w["messages"])
        )
    assert told == {
        "start": at - at % 10_000,
        "end": told["start"] + 10_000,
        "bytes": 10,
        "messages": 2,
        "late": 0,
    }
    await eventually(lambda: sums(analytics)[1] == 5, 10)
    assert sums(analytics) == (1860, 5)
    assert sums(analytics, "app=demo") == (10, 2)
    assert sums(analytics, "app=demo&device=alice") == (4, 1)
    assert sums(analytics, "app=other&device=carol") == (50, 1)
    assert sums(analytics, "device=carol") == (0, 0)
    assert sums(analytics, "app=default") == (1800, 2)
    assert analytics.metric("cloudmatch_analytics_duplicates_total") == 1


async def test_what_no_one_can_read_goes_to_the_dead_and_disturbs_nothing(analytics, publisher):
    await publisher.raw(b"four", {"app": "demo", "from": "alice"}, "1.0")
    await publisher.size(4, ago=60)
    await publisher.raw(b"4", {"app": "demo", "from": 5}, "2.0")
    await publisher.size(5, ago=60)
    await eventually(lambda: sums(analytics) == (9, 2), 20)
    assert analytics.metric("cloudmatch_analytics_rejected_total") == 2
    dead = await publisher.channel.get_queue(amqp.DEAD_QUEUE)
    bodies = [(await dead.get(no_ack=True)).body for _ in range(2)]
    assert bodies == [b"four", b"4"]
    await eventually(lambda: analytics.process.log.count("is rejected") == 2, what="two lines in the log")


async def test_what_comes_late_counts_is_named_and_reaches_the_live_stream_again(analytics, publisher):
    at = await publisher.size(4)
    start = at - at % 10_000
    await eventually(lambda: sums(analytics) == (4, 1), CLOSES)
    with events(analytics, "app=demo&device=bob") as live, events(analytics, "hop=10s&size=60s") as sliding:
        assert await asyncio.to_thread(next, live)
        assert await asyncio.to_thread(next, sliding)
        await publisher.size(5, sender="bob", at=at + 1)
        told = await asyncio.to_thread(lambda: next(w for kind, w in live if kind == "corrected"))
        assert told == {"start": start, "end": start + 10_000, "bytes": 5, "messages": 1, "late": 1}
        told = await asyncio.to_thread(lambda: next(w for kind, w in sliding if kind == "corrected"))
        assert (told["bytes"], told["messages"], told["late"]) == (9, 2, 1)
    assert sums(analytics) == (9, 2)
    assert analytics.metric("cloudmatch_analytics_late_total") == 1
    line = "late: 1 payloads, 5 bytes, of demo.bob for the window of"
    await eventually(lambda: line in analytics.process.log, what="the line in the log")


async def test_what_is_older_than_any_window_is_named_and_counted_apart(analytics, publisher):
    await publisher.size(4)
    await eventually(lambda: sums_running(analytics, "") == (4, 1), 20)
    await publisher.size(5, ago=25 * 3600)
    line = "too late for any window that is kept: 1 payloads, 5 bytes, of demo.alice"
    await eventually(lambda: line in analytics.process.log, what="the line in the log")
    assert analytics.metric("cloudmatch_analytics_too_late_total") == 1
    await eventually(lambda: sums(analytics) == (4, 1), CLOSES)


async def test_long_and_hopping_windows_hold_what_their_slices_hold(analytics, publisher):
    for ago in range(5, 125, 10):
        await publisher.size(10, ago=ago)
    await eventually(lambda: sums(analytics) == (120, 12), CLOSES)
    slices = {w["start"]: w["bytes"] for w in analytics.get_json("/windows?last=1000")}
    for query, hop in (("size=60s", 60_000), ("size=60s&hop=10s", 10_000)):
        windows = analytics.get_json(f"/windows?{query}&last=1000")
        assert len(windows) >= 2, query
        for window in windows:
            assert window["start"] % hop == 0
            assert window["end"] - window["start"] == 60_000
            of = range(window["start"], window["end"], 10_000)
            assert window["bytes"] == sum(slices.get(start, 0) for start in of), query


async def test_senders_are_told_by_what_they_sent(analytics, publisher):
    await publisher.size(4)
    await publisher.size(9, sender="bob @ home")
    await publisher.size(50, app="other", sender="carol")
    await publisher.raw(b"1")
    found = await eventually(lambda: (s := analytics.get_json("/senders")) and len(s) == 4 and s, 20)
    assert [(s["app"], s["device"], s["bytes"]) for s in found] == [
        ("other", "carol", 50),
        ("demo", "bob @ home", 9),
        ("demo", "alice", 4),
        ("default", "", 1),
    ]
    assert [s["device"] for s in analytics.get_json("/senders?app=demo&limit=1")] == ["bob @ home"]
    assert sums_running(analytics, "app=demo&device=bob%20%40%20home") == (9, 1)


async def test_the_page_and_all_that_it_needs_come_from_here(analytics):
    status, page = analytics.get("/")
    assert status == 200
    needed = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(needed) >= 4
    for path in needed:
        if not path.startswith("data:"):
            assert path.startswith("/"), path
            status, text = analytics.get(path)
            assert status == 200, path
            assert not re.search(r"(?:src|href|import|url)\W{1,3}https?://", text), path


async def test_a_wrong_question_is_answered_with_400(analytics):
    for query in ("size=11s", "last=0", "last=many", "last=100000", "hop=60s", "size=60s&hop=5s"):
        status, text = analytics.get(f"/windows?{query}")
        assert (status, json.loads(text)["error"]["code"]) == (400, "bad_request"), query
    assert analytics.get("/windows/live?size=1h")[0] == 400
    paths = analytics.get_json("/schema/openapi.json")["paths"]
    assert set(paths) == {"/windows", "/windows/live", "/senders"}


async def test_a_restart_loses_nothing_and_counts_nothing_twice(analytics, publisher):
    for ago in range(100):
        await publisher.size(1, ago=ago)
    await eventually(lambda: analytics.metric("cloudmatch_analytics_counted_total") == 100, 20)
    own = children(analytics.process.pid)
    assert len(own) == 2  # the source, and Python's keeper of shared things
    await asyncio.to_thread(analytics.terminate)
    assert analytics.process.returncode == 0
    await eventually(lambda: not [pid for pid in own if alive(pid)], 10)  # Python's keeper sees it last

    for ago in range(200, 100, -1):  # a backlog: older than what was, newest last
        await publisher.size(1, ago=ago)
    await asyncio.to_thread(analytics.restart)
    await eventually(lambda: sums(analytics) == (200, 200), CLOSES)

    own = children(analytics.process.pid)
    await publisher.size(1)
    analytics.kill()
    await eventually(lambda: not [pid for pid in own if alive(pid)], 10)  # nobody told the source
    await publisher.size(1)
    await asyncio.to_thread(analytics.restart)
    await eventually(lambda: sums(analytics) == (202, 202), CLOSES)


@contextlib.asynccontextmanager
async def flow(publisher, rate=300):
    """Publish sizes all the time, some of them twice; gives the bytes and messages so far."""
    sent = [0, 0]
    over = asyncio.Event()

    async def publish():
        while not over.is_set():
            number = sent[1]
            at = await publisher.size(number % 90, sender=f"d{number % 7}", message_id=f"{number}.0")
            if number % 50 == 0:
                await publisher.size(number % 90, sender=f"d{number % 7}", message_id=f"{number}.0", at=at)
            sent[0] += number % 90
            sent[1] += 1
            await asyncio.sleep(1 / rate)

    task = asyncio.create_task(publish())
    try:
        yield sent
    finally:
        over.set()
        await task


async def agree(service, sent):
    """Return once the sums are what was sent; the failure says how they differ."""
    try:
        await eventually(lambda: sums(service) == tuple(sent), CLOSES)
    except AssertionError as error:
        error.add_note(f"sent {sent}, sums {sums(service)}")
        raise


def source(service):
    """Pid of the source's process."""
    (pid,) = (
        p for p in children(service.process.pid) if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()
    )
    return pid


async def counts(service):
    """Return once the service counts sizes (again)."""
    before = service.metric("cloudmatch_analytics_counted_total")
    await eventually(lambda: service.metric("cloudmatch_analytics_counted_total") > before + 20, 30)


async def test_sums_are_exact_after_sigkill_of_the_source_the_service_and_both_at_any_moment(
    analytics, publisher
):
    chance = random.Random(2019)  # noqa: S311 # no secret
    async with flow(publisher) as sent:
        for victims in ("source", "service", "both"):
            await counts(analytics)
            await asyncio.sleep(chance.random() / 2)  # any moment between two commits
            own = source(analytics)
            if victims != "service":
                os.kill(own, signal.SIGKILL)
            if victims != "source":
                analytics.kill()
                await eventually(lambda own=own: not alive(own), 10)  # nobody told the source
                await asyncio.to_thread(analytics.restart)
            else:
                await eventually(lambda own=own: source_again(analytics, own), 20)
        await counts(analytics)
    await agree(analytics, sent)
    apart = [sums(analytics, f"app=demo&device=d{i}") for i in range(7)]
    assert [sum(of) for of in zip(*apart, strict=True)] == sent


def source_again(service, before):
    try:
        return source(service) != before
    except (ValueError, OSError):
        return False


async def test_two_share_the_work_and_each_answers_for_all(
    kafka_broker, amqp_url, publisher, start, analytics
):
    second = start("analytics", settings(amqp_url, kafka_broker))
    both = (analytics, second)
    async with flow(publisher) as sent:
        await asyncio.gather(*map(counts, both))
        analytics.kill()
        await counts(second)
        await asyncio.to_thread(analytics.restart)
        await asyncio.gather(*map(counts, both))
    for each in both:
        await agree(each, sent)
    query = "/windows?last=1000&app=demo&device=d3"
    shown = [{w["start"]: w["bytes"] for w in each.get_json(query) if w["messages"]} for each in both]
    assert shown[0] == shown[1]


async def test_a_lost_folder_comes_back_from_what_the_broker_holds(analytics, publisher):
    for _ in range(5):
        await publisher.size(10, ago=60, message_id="1.0", at=time.time_ns() // 10**6 - 60_000 + _)
    at = await publisher.size(10, ago=30)
    await eventually(lambda: sums(analytics) == (60, 6), 20)
    before = analytics.get_json("/windows?last=3")
    await asyncio.to_thread(analytics.terminate)
    shutil.rmtree(analytics.folder / "run")
    await publisher.size(10, message_id=f"{publisher.position}.0", at=at)  # again: it is still known
    await publisher.size(1, ago=20)
    await asyncio.to_thread(analytics.restart)
    await eventually(lambda: sums(analytics) == (61, 7), 20)
    assert before[0] in analytics.get_json("/windows?last=1000")


async def test_readiness_says_when_rabbitmq_is_away_and_when_it_is_back(kafka_broker, start):
    with harness.rabbitmq() as rabbitmq:
        analytics = start("analytics", settings(rabbitmq.url, kafka_broker))
        await asyncio.to_thread(rabbitmq.kill)
        _, text = await eventually(lambda: (a := analytics.get("/system/readiness"))[0] == 503 and a, 20)
        assert "RabbitMQ is away" in json.loads(text)["reasons"]["source"]
        await asyncio.to_thread(rabbitmq.restart)
        await asyncio.to_thread(analytics.wait_ready)
        analytics.terminate()


def committed(bootstrap):
    """How many records analytics has committed; ticks let it grow all the time."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "analytics", "log_level": 0})
    places = consumer.committed([TopicPartition("cloudmatch.bytes", p) for p in range(4)], 5)
    consumer.close()
    return sum(max(0, place.offset) for place in places)


@pytest.fixture
def embedded(request):
    """Skips what is about the embedded broker where there is a real Kafka."""
    if request.config.getoption("--kafka"):
        pytest.skip("is about the embedded broker")


async def test_a_new_broker_in_place_of_the_old_goes_on_counting(
    embedded, amqp_url, publisher, start, tmp_path, request
):
    port = str(harness.free_port())

    def begin():
        command = [harness.processes.BIN / "analytics-broker"]
        made = harness.Process("broker", command, {"CLOUDMATCH_KAFKA_PORT": port}, tmp_path)
        made.wait_line(rf"listens at tcp://127.0.0.1:{port}")
        return made

    broker = begin()
    request.addfinalizer(lambda: broker.terminate())
    analytics = start("analytics", {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": port})
    await publisher.size(4, ago=60)
    await eventually(lambda: sums(analytics) == (4, 1), 20)
    shown = committed(f"127.0.0.1:{port}")
    await eventually(lambda: committed(f"127.0.0.1:{port}") > shown, 10)  # the size is in what was shown
    broker.kill()
    await publisher.size(5, ago=60)
    tmp_path.joinpath("broker.log").unlink()
    broker = begin()
    await publisher.size(6, ago=60)
    await eventually(lambda: sums(analytics) == (15, 3), 30)
    analytics.terminate()
    broker.signal(signal.SIGTERM)
    assert broker.wait(10) == 0


async def test_sigterm_ends_it_at_once_while_there_is_no_broker(embedded, amqp_url, start):
    nowhere = {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": str(harness.free_port())}
    analytics = start("analytics", nowhere, ready=False)
    _, text = await eventually(lambda: (a := analytics.get("/system/readiness"))[0] == 503 and a, 20)
    assert "broker" in json.loads(text)["reasons"]["pipeline"]
    analytics.terminate()
    assert analytics.process.returncode == 0
