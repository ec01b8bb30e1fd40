"""Analytics from RabbitMQ to REST, on real servers.

All tests query one running service, each about an app of its own.
"""

import asyncio
import json
import re
import struct
import time
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest
from confluent_kafka import Producer

from cloudmatch_analytics import topics
from cloudmatch_bridge_rabbit.channel import open_channel
from cloudmatch_bridge_rabbit.core import frames
from cloudmatch_bus.contract import amqp, amqp_batches
from cloudmatch_bus.contract.amqp import MAX_TIME
from cloudmatch_bus.contract.deliveries import MAX_BYTES, Span
from harness import Service, eventually, service
from harness.analytics import Publisher, encoded_batch, events, publishing, sums

CLOSES = 30  # s within which a 10 s window must close


@pytest.fixture(scope="module")
def analytics(shared_kafka_broker, shared_amqp_url) -> Iterator[Service]:
    """Analytics, ready."""
    settings = {"CLOUDMATCH_AMQP_URL": shared_amqp_url, **shared_kafka_broker.settings}
    with service("analytics", settings, deadline=60) as running:
        yield running


@pytest.fixture
async def publisher(shared_amqp_url, analytics, request) -> AsyncIterator[Publisher]:
    async with publishing(shared_amqp_url, request.node.name.split("_")[-1]) as made:
        yield made


def of(publisher: Publisher, **more: str) -> str:
    """The query for a test's own app."""
    return "&".join(f"{name}={value}" for name, value in {"app": publisher.app, **more}.items())


async def within_a_window() -> None:
    """Wait until the running window has some seconds left, so that the next sizes share it."""
    await eventually(lambda: time.time() % 10 < 7, 10)


async def test_a_window_with_four_bytes_closes_though_no_payload_follows(analytics, publisher):
    at = await publisher.size(4)
    await eventually(lambda: sums(analytics, of(publisher)) == (4, 1), CLOSES)
    start = at - at % 10_000
    assert time.time() * 1000 >= start + 11_000  # the lag
    (overall,) = (w for w in analytics.get_json("/windows?last=1000") if w["start"] == start)
    line = f"bytes exchanged in the previous 10 seconds: {overall['bytes']}\n"
    await eventually(lambda: line in analytics.process.log, what="the line in the log")


async def test_every_size_counts_once_per_device_per_app_and_over_all(analytics, publisher):
    before, duplicates = sums(analytics), analytics.metric("cloudmatch_analytics_duplicates_total")
    with events(analytics, of(publisher)) as live:
        assert await asyncio.to_thread(next, live)
        await within_a_window()
        at = await publisher.size(4, message_id="1.0")
        await publisher.size(4, message_id="1.0", at=at)
        await publisher.size(6, sender="bob")
        await publisher.size(50, app="other", sender="carol")
        await publisher.raw(b"900")  # as in 2019
        await publisher.raw(b"900")
        event = await asyncio.to_thread(
            lambda: next(w for kind, w in live if kind == "closed" and w["messages"])
        )
    start = at - at % 10_000
    assert event == {"start": start, "end": start + 10_000, "bytes": 10, "messages": 2, "late": 0}
    await eventually(lambda: sums(analytics)[1] == before[1] + 5, CLOSES)
    assert sums(analytics)[0] == before[0] + 1860
    assert sums(analytics, of(publisher)) == (10, 2)
    assert sums(analytics, of(publisher, device="alice")) == (4, 1)
    assert sums(analytics, "app=other&device=carol") == (50, 1)
    assert sums(analytics, "device=carol") == (0, 0)
    assert sums(analytics, "app=default") == (1800, 2)
    assert analytics.metric("cloudmatch_analytics_duplicates_total") == duplicates + 1


async def test_a_batch_counts_once_per_device_per_app_and_over_all_however_often_it_comes(
    analytics, publisher
):
    before, duplicates = sums(analytics), analytics.metric("cloudmatch_analytics_duplicates_total")
    at = await publisher.batch({"alice": [4, 4, 4], "bob": [5]}, message_id="77", ago=60)
    await publisher.batch({"alice": [1], "carol": [0]}, ago=60)
    await publisher.batch({"alice": [4, 4, 4], "bob": [5]}, message_id="77", at=at)
    await publisher.size(6, sender="bob", ago=60)
    mine = (24, 7)
    await eventually(lambda: sums(analytics, of(publisher)) == mine, CLOSES)
    assert sums(analytics, of(publisher, device="alice")) == (13, 4)
    assert sums(analytics, of(publisher, device="bob")) == (11, 2)
    assert sums(analytics, of(publisher, device="carol")) == (0, 1)
    assert sums(analytics) == (before[0] + 24, before[1] + 7)
    assert analytics.metric("cloudmatch_analytics_duplicates_total") == duplicates + 4


async def test_sizes_that_are_batched_as_well_are_acknowledged_and_not_counted_again(analytics, publisher):
    await publisher.raw(b"900", {"app": publisher.app, "from": "alice", "batched": 1}, "5.0")
    await publisher.batch({"alice": [900]}, ago=60)
    await eventually(lambda: sums(analytics, of(publisher)) == (900, 1), CLOSES)
    queue = await publisher.channel.declare_queue(amqp.QUEUE, passive=True)
    assert queue.declaration_result.message_count == 0


async def test_a_batch_from_the_future_counts_once_at_its_arrival(analytics, publisher):
    ahead = int(1000 * time.time()) + 3_600_000
    await publisher.batch({"alice": [7]}, message_id="78", at=ahead)
    await publisher.size(3, message_id="78.0", at=ahead)
    await eventually(lambda: sums(analytics, of(publisher)) == (10, 2), CLOSES)
    await publisher.batch({"alice": [7]}, message_id="78", at=ahead)
    await publisher.size(3, message_id="78.0", at=ahead)
    await publisher.batch({"alice": [2]}, at=MAX_TIME - 1)
    await eventually(lambda: sums(analytics, of(publisher)) == (12, 3), CLOSES)


async def test_a_batch_of_thousands_of_senders_counts_once_and_is_spread_over_records(analytics, publisher):
    sizes = {f"device-{number}": [number % 2] for number in range(10_000)}
    at = await publisher.batch(sizes, ago=60, message_id="79")
    total = 5_000, 10_000
    await eventually(lambda: sums(analytics, of(publisher)) == total, CLOSES)
    await publisher.batch(sizes, at=at, message_id="79")
    await publisher.batch({"device-7": [1]}, ago=60)
    await eventually(lambda: sums(analytics, of(publisher)) == (total[0] + 1, total[1] + 1), CLOSES)
    assert sums(analytics, of(publisher, device="device-7")) == (2, 2)


async def test_unreadable_batches_become_dead_letters_and_disturb_no_others(analytics, publisher):
    rejected = analytics.metric("cloudmatch_analytics_rejected_total")
    bodies = [
        b"4",
        b"",
        b'{"app":"demo","at":5,"spans":[]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,-4,"-4"]]}',
    ]
    for number, body in enumerate(bodies):
        await publisher.raw_batch(body, f"dead-{number}\nERROR source: \x1b[2J" + 50 * "\N{SPEAKER}")
    await publisher.batch({"alice": [4]}, ago=60)
    await eventually(lambda: sums(analytics, of(publisher)) == (4, 1), CLOSES)
    assert analytics.metric("cloudmatch_analytics_rejected_total") == rejected + 4
    dead = await publisher.channel.get_queue(amqp_batches.DEAD_QUEUE)
    assert [(await dead.get(no_ack=True)).body for _ in bodies] == bodies
    await eventually(lambda: analytics.process.log.count("message dead-") == 4, what="a line each in the log")
    assert "\x1b" not in analytics.process.log
    assert "\nERROR source:" not in analytics.process.log


async def test_unreadable_messages_become_dead_letters_and_disturb_nothing(analytics, publisher):
    rejected = analytics.metric("cloudmatch_analytics_rejected_total")
    await publisher.raw(b"four", {"app": "demo", "from": "alice"}, "1.0")
    await publisher.size(4, ago=60)
    await publisher.raw(b"4", {"app": "demo", "from": 5}, "2.0")
    await publisher.size(5, ago=60)
    await eventually(lambda: sums(analytics, of(publisher)) == (9, 2), 20)
    assert analytics.metric("cloudmatch_analytics_rejected_total") == rejected + 2
    dead = await publisher.channel.get_queue(amqp.DEAD_QUEUE)
    bodies = [(await dead.get(no_ack=True)).body for _ in range(2)]
    assert bodies == [b"four", b"4"]
    await eventually(
        lambda: analytics.process.log.count(" rejected: ") == rejected + 2, what="two lines in the log"
    )


async def test_properties_that_no_driver_can_decode_end_no_connection(
    analytics, publisher, shared_amqp_url, tmp_path
):
    before = sums(analytics, "app=default")
    rejected = analytics.metric("cloudmatch_analytics_rejected_total")
    texts = frames.flags(frames.CONTENT_TYPE | frames.MESSAGE_ID) + b"\x01\xff" + b"\xff" * 256
    ahead = frames.flags(frames.TIMESTAMP) + b"\xff" * 8
    name = frames.flags(frames.HEADERS) + frames.table(b"\x02\xff\xfet\x01")
    double = frames.flags(frames.HEADERS) + frames.table(b"\x01ad" + struct.pack(">d", 1e300))
    sent = ((texts, b"4"), (ahead, b"5"), (double, b"6"), (name, b"7"), (double, b"eight"))
    async with await aio_pika.connect(shared_amqp_url) as connection:
        channel = await open_channel(connection)
        number = channel.number
        (block,) = frames.blocks(
            frames.method(number, "", amqp.QUEUE, mandatory=True)
            + frames.header(number, len(body), properties)
            + frames.body(number, body, 1000)
            for properties, body in sent
        )
        assert await channel.confirmed(await channel.send(block), 5)
    await eventually(lambda: sums(analytics, "app=default") == (before[0] + 15, before[1] + 3), CLOSES)
    assert analytics.metric("cloudmatch_analytics_rejected_total") == rejected + 2
    commands = Service("bridge-rabbit", {"CLOUDMATCH_AMQP_URL": shared_amqp_url}, tmp_path)
    shown = await asyncio.to_thread(commands.ask, "dead-letters")
    assert "eight" in shown.stdout
    moved = await asyncio.to_thread(commands.ask, "replay")
    assert moved.stderr == "moved 2 dead letters\n"
    await eventually(lambda: analytics.metric("cloudmatch_analytics_rejected_total") == rejected + 4)
    await (await publisher.channel.get_queue(amqp.DEAD_QUEUE)).purge()


async def test_records_that_nobody_can_read_are_counted_and_skipped(
    analytics, publisher, shared_kafka_broker
):
    unreadable = analytics.metric("cloudmatch_analytics_unreadable_total")
    producer = Producer({"bootstrap.servers": shared_kafka_broker.bootstrap})
    headers = [("name", b"\xff"), ("", None)]
    for partition in range(4):
        for value, key in ((b"{}", b"\xff"), (None, b"7"), (b"\xff", None), (b"[" * 10_000, b"batches")):
            producer.produce(topics.SIZES, value, key, partition, headers=headers)
        for value in (None, b"\xff", b'{"type":"tick","partition":0,"at":-1}'):
            producer.produce(topics.RESULTS, value, b"\xff", partition, headers=headers)
        producer.produce(topics.RESULTS, b'{"type":"tick","partition":99,"at":1}', b"99", partition)
    assert not await asyncio.to_thread(producer.flush, 10)
    for device in range(20):
        await publisher.size(4, sender=f"device-{device}", ago=60)
    await eventually(lambda: sums(analytics, of(publisher)) == (80, 20), CLOSES)
    assert analytics.metric("cloudmatch_analytics_unreadable_total") == unreadable + 4 * 7
    assert analytics.get("/system/readiness")[0] == 200


async def test_sums_beyond_64_bits_and_numbers_that_nothing_has_are_survived(analytics, publisher):
    most = [Span("alice", "bob", 7, 0, 1, MAX_BYTES - 1, "1")] * 9_300
    now = time.time_ns() // 10**6
    for number in range(2):
        await publisher.raw_batch(encoded_batch(most, publisher.app, now - 600_000), f"most-{number}")
    far = encoded_batch(most[:1], publisher.app, 1).replace(b'"at":1,', b'"at":1' + b"0" * 400 + b",")
    await publisher.raw_batch(far, "far")
    await publisher.raw(b"4", {"app": publisher.app, "from": "alice", "at": MAX_TIME}, "far.0")
    await publisher.size(4, ago=60, sender="eve")
    await eventually(lambda: sums(analytics, of(publisher, device="eve")) == (4, 1), CLOSES)
    assert sums(analytics, of(publisher)) == (2**63 - 1 + 4, 18_601)
    await eventually(lambda: analytics.metric("cloudmatch_analytics_saturated_total") >= 1)
    for queue in (amqp_batches.DEAD_QUEUE, amqp.DEAD_QUEUE):
        dead = await (await publisher.channel.get_queue(queue)).get(no_ack=True)
        assert str(dead.message_id).startswith("far")


async def test_late_payloads_count_are_logged_and_correct_the_live_stream(analytics, publisher):
    at = await publisher.size(4, ago=60)
    start = at - at % 10_000
    await eventually(lambda: sums(analytics, of(publisher)) == (4, 1), CLOSES)
    counted = analytics.metric("cloudmatch_analytics_late_total")
    with (
        events(analytics, of(publisher, device="bob")) as live,
        events(analytics, of(publisher, size="60s", hop="10s")) as sliding,
    ):
        assert await asyncio.to_thread(next, live)
        assert await asyncio.to_thread(next, sliding)
        await publisher.size(5, sender="bob", at=at + 1)
        event = await asyncio.to_thread(lambda: next(w for kind, w in live if kind == "corrected"))
        assert event == {"start": start, "end": start + 10_000, "bytes": 5, "messages": 1, "late": 1}
        event = await asyncio.to_thread(lambda: next(w for kind, w in sliding if kind == "corrected"))
        assert (event["bytes"], event["messages"]) == (9, 2)
    assert sums(analytics, of(publisher)) == (9, 2)
    assert analytics.metric("cloudmatch_analytics_late_total") == counted + 1
    line = rf"late: \d payloads, \d bytes, from .*{publisher.app}\.bob.* for the window of"

    async def logged():
        """Other tests may have used up the lines of this kind for some seconds."""
        await publisher.size(1, sender="bob", at=at + 1)
        return re.search(line, analytics.process.log)

    await eventually(logged, 20, "the line in the log")


async def test_payloads_older_than_all_windows_are_logged_and_counted_separately(analytics, publisher):
    await publisher.size(4)
    await eventually(lambda: sums(analytics, of(publisher)) == (4, 1), CLOSES)
    await publisher.size(5, ago=25 * 3600)
    line = f"too late for all retained windows: 1 payloads, 5 bytes, from {publisher.app}.alice"
    await eventually(lambda: line in analytics.process.log, 20, "the line in the log")
    assert analytics.metric("cloudmatch_analytics_too_late_total") == 1
    assert sums(analytics, of(publisher)) == (4, 1)


async def test_long_and_hopping_windows_are_the_sums_of_their_slices(analytics, publisher):
    for ago in range(15, 135, 10):
        await publisher.size(10, ago=ago)
    await eventually(lambda: sums(analytics, of(publisher)) == (120, 12), CLOSES)
    mine = of(publisher, last="1000")
    slices = {w["start"]: w["bytes"] for w in analytics.get_json(f"/windows?{mine}")}
    for query, hop in (("size=60s", 60_000), ("size=60s&hop=10s", 10_000)):
        windows = analytics.get_json(f"/windows?{query}&{mine}")
        assert sum(w["bytes"] > 0 for w in windows) >= (1 if hop == 60_000 else 7), query
        for window in windows:
            assert window["start"] % hop == 0
            assert window["end"] - window["start"] == 60_000
            held = range(window["start"], window["end"], 10_000)
            assert window["bytes"] == sum(slices.get(start, 0) for start in held), query


async def test_senders_are_listed_by_the_bytes_they_sent(analytics, publisher):
    await publisher.size(4)
    await publisher.size(9, sender="bob @ home")
    await publisher.size(1, sender="")

    def senders(query=""):
        return [(s["device"], s["bytes"]) for s in analytics.get_json(f"/senders?{of(publisher)}{query}")]

    await eventually(lambda: senders() == [("bob @ home", 9), ("alice", 4), ("", 1)], 20)
    assert senders("&limit=1") == [("bob @ home", 9)]
    assert {s["app"] for s in analytics.get_json("/senders")} >= {publisher.app}
    await eventually(lambda: sums(analytics, of(publisher, device="bob%20%40%20home")) == (9, 1), CLOSES)


async def test_the_page_loads_everything_from_this_service(analytics):
    status, page = analytics.get("/")
    assert status == 200
    needed = [path for path in re.findall(r'(?:src|href)="([^"#][^"]*)"', page) if "data:" not in path]
    assert len(needed) >= 4
    for path in needed:
        assert not path.startswith(("/", "http")), path
        status, text = analytics.get(f"/{path}")
        assert status == 200, path
        assert not re.search(r"""(?:src|href|import|url|fetch)\W{1,3}https?://""", text), path


async def test_an_invalid_query_is_answered_with_400(analytics):
    for query in ("size=11s", "last=0", "last=many", "last=100000", "hop=60s", "size=60s&hop=5s"):
        status, text = analytics.get(f"/windows?{query}")
        assert (status, json.loads(text)["error"]["code"]) == (400, "bad_request"), query
    assert analytics.get("/windows/live?size=1h")[0] == 400
    paths = analytics.get_json("/schema/openapi.json")["paths"]
    assert set(paths) == {"/windows", "/windows/live", "/senders"}
