"""Analytics from RabbitMQ to REST, with real parts."""

import asyncio
import json
import shutil
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import pytest

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
    return {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": broker.bootstrap.rpartition(":")[2]}


def sums(service, query=""):
    """Bytes and messages of all closed windows of 10 s."""
    windows = service.get_json(f"/windows?size=10s&last=1000&{query}")
    return sum(w["bytes"] for w in windows), sum(w["messages"] for w in windows)


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
    assert told == {"start": at - at % 10_000, "end": told["start"] + 10_000, "bytes": 10, "messages": 2}
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


async def test_what_comes_late_is_added_to_its_closed_window(analytics, publisher):
    at = await publisher.size(4, ago=60)
    await publisher.size(4, ago=30)
    await eventually(lambda: sums(analytics) == (8, 2), 20)
    first = analytics.get_json("/windows?last=1000")[0]
    assert first == {"start": at - at % 10_000, "end": first["start"] + 10_000, "bytes": 4, "messages": 1}


async def test_a_wrong_question_is_answered_with_400(analytics):
    for query in ("size=11s", "last=0", "last=many", "last=100000"):
        status, text = analytics.get(f"/windows?{query}")
        assert (status, json.loads(text)["error"]["code"]) == (400, "bad_request"), query
    assert analytics.get("/windows/live?size=1h")[0] == 400
    assert "<svg" in analytics.get("/")[1]
    paths = analytics.get_json("/schema/openapi.json")["paths"]
    assert set(paths) == {"/windows", "/windows/live"}


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


async def test_a_lost_folder_starts_anew_with_all_that_the_broker_holds(analytics, publisher):
    for _ in range(5):
        await publisher.size(10, ago=60)
    await eventually(lambda: sums(analytics) == (50, 5), 20)
    await asyncio.to_thread(analytics.terminate)
    shutil.rmtree(analytics.folder / "run")
    await asyncio.to_thread(analytics.restart)
    await eventually(lambda: sums(analytics) == (50, 5), 20)
    assert "no state in" in analytics.process.log


async def test_readiness_says_when_rabbitmq_is_away_and_when_it_is_back(kafka_broker, start):
    with harness.rabbitmq() as rabbitmq:
        analytics = start("analytics", settings(rabbitmq.url, kafka_broker))
        await asyncio.to_thread(rabbitmq.kill)
        _, text = await eventually(lambda: (a := analytics.get("/system/readiness"))[0] == 503 and a, 20)
        assert "RabbitMQ is away" in json.loads(text)["reasons"]["source"]
        await asyncio.to_thread(rabbitmq.restart)
        await asyncio.to_thread(analytics.wait_ready)
        analytics.terminate()


async def test_a_new_broker_in_place_of_the_old_goes_on_counting(
    amqp_url, publisher, start, tmp_path, request
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
    broker.kill()
    await publisher.size(5, ago=60)
    tmp_path.joinpath("broker.log").unlink()
    broker = begin()
    await publisher.size(6, ago=60)
    await eventually(lambda: sums(analytics) == (15, 3), 30)
    assert "another broker than before" in analytics.process.log
    analytics.terminate()
    broker.signal(signal.SIGTERM)
    assert broker.wait(10) == 0


async def test_sigterm_ends_it_at_once_while_there_is_no_broker(amqp_url, start):
    nowhere = {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_KAFKA_PORT": str(harness.free_port())}
    analytics = start("analytics", nowhere, ready=False)
    _, text = await eventually(lambda: (a := analytics.get("/system/readiness"))[0] == 503 and a, 20)
    assert "broker" in json.loads(text)["reasons"]["pipeline"]
    analytics.terminate()
    assert analytics.process.returncode == 0
