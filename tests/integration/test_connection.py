"""The connection to a real server that dies and comes back."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cloudmatch_bus.client.bucket import Bucket, Write
from cloudmatch_bus.client.connection import PENDING_LIMIT, Bus, Headers, NoRespondersError
from harness import NatsServer, eventually
from harness.bus import connected, counted, stranger

pytestmark = pytest.mark.servers


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
async def either_bus(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url, fast=request.param) as made:
        yield made


async def test_messages_published_while_disconnected_arrive_later_or_are_refused_and_counted(
    either_bus: Bus, nats_server: NatsServer
) -> None:
    received: list[int] = []
    await either_bus.subscribe("t.>", lambda _, __, payload, ___: received.append(int(payload[:6])))
    nats_server.kill()
    await eventually(lambda: not either_bus.connected, what="the loss is noticed")
    refused = counted("cloudmatch_bus_refused_total")
    size = 64 * 1024
    numbers = range(2 * PENDING_LIMIT // size)
    accepted = [n for n in numbers if either_bus.publish("t.x", b"%06d" % n + bytes(size - 6))]
    assert PENDING_LIMIT // size // 2 < len(accepted) < len(numbers)
    assert counted("cloudmatch_bus_refused_total") - refused == len(numbers) - len(accepted)
    await asyncio.to_thread(nats_server.restart)
    await eventually(lambda: len(received) >= len(accepted), what="all that was accepted")
    assert received == accepted


async def test_a_failing_handler_costs_its_message_and_nothing_else(
    either_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[bytes] = []

    def handler(_: str, __: str, payload: bytes, ___: Headers) -> None:
        if payload == b"bad":
            raise ZeroDivisionError("a bug")
        received.append(payload)

    await either_bus.subscribe("t.x", handler)
    failed = counted("cloudmatch_bus_handler_failures_total")
    for payload in (b"one", b"bad", b"two"):
        either_bus.publish("t.x", payload)
    await eventually(lambda: received == [b"one", b"two"])
    assert counted("cloudmatch_bus_handler_failures_total") == failed + 1
    assert "handler failed on t.x" in caplog.text
    assert either_bus.connected


async def test_no_message_is_handled_after_unsubscribing(either_bus: Bus) -> None:
    received: list[str] = []
    first = await either_bus.subscribe("t.*", lambda subject, *_: received.append(subject))
    await either_bus.unsubscribe(first)
    end: list[str] = []
    await either_bus.subscribe("t.*", lambda subject, *_: end.append(subject))
    either_bus.publish("t.x", b"")
    await eventually(lambda: end == ["t.x"])
    assert received == []


async def test_messages_with_and_without_headers_arrive_in_order(either_bus: Bus) -> None:
    received: list[tuple[bytes, Headers]] = []
    await either_bus.subscribe("t.x", lambda _, __, data, headers: received.append((data, headers)))
    sent = [(b"%d" % n, {"Number": f"{n}"} if n % 3 == 0 else None) for n in range(1000)]
    for data, headers in sent:
        either_bus.publish("t.x", data, "", headers)
        if data.endswith(b"7"):
            await asyncio.sleep(0)
    await eventually(lambda: len(received) == len(sent), what="all of them")
    assert received == sent


async def test_no_message_is_lost_while_one_member_of_a_queue_group_drains(
    nats_server: NatsServer,
) -> None:
    async with (
        connected(nats_server.url) as one,
        connected(nats_server.url) as two,
        connected(nats_server.url) as sender,
    ):
        received: list[list[int]] = [[], []]
        first = await one.subscribe("t.x", lambda _, __, data, ___: received[0].append(int(data)), "queue")
        await two.subscribe("t.x", lambda _, __, data, ___: received[1].append(int(data)), "queue")
        await asyncio.gather(one.client.flush(), two.client.flush())
        draining = None
        for number in range(20_000):
            sender.publish("t.x", b"%d" % number)
            if number % 500 == 0:
                await asyncio.sleep(0)
            if number == 5000:
                await eventually(lambda: all(received), what="both have a share")
                draining = asyncio.create_task(one.drain(first))
        await sender.client.flush()
        assert draining is not None
        await draining
        await eventually(lambda: sum(map(len, received)) == 20_000, what="all of them")
        assert sorted(received[0] + received[1]) == list(range(20_000))
        assert received[1][-1] == 19_999


async def test_a_request_without_responders_reply_or_server_is_a_timeout(
    bus: Bus, nats_server: NatsServer
) -> None:
    with pytest.raises(NoRespondersError, match=r"no reply on t\.x: no responders"):
        await bus.request("t.x", b"")
    await bus.subscribe("t.x", lambda *_: None)
    with pytest.raises(TimeoutError):
        await bus.request("t.x", b"", timeout=0.05)
    nats_server.kill()
    with pytest.raises(TimeoutError):
        await bus.request("t.x", b"", timeout=0.2)
    with pytest.raises(TimeoutError):
        await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])


async def test_what_nobody_can_read_costs_its_message_and_nothing_else(
    either_bus: Bus, nats_server: NatsServer
) -> None:
    received: list[bytes] = []
    await either_bus.subscribe("t.>", lambda _, __, payload, ___: received.append(payload))
    await either_bus.client.flush()
    before = counted("cloudmatch_bus_unreadable_total")
    async with stranger(nats_server.url) as sender:
        for head in (None, b"NATS/1.0\r\n\r\n"):
            sender.publish(b"t.\xff", b"x", head=head)
            sender.publish(b"t.a", b"x", b"r.\xc3", head)
        for head in (b"NATS/1.0", b"x", b"NATS/1.0 \xff\xff\xff\r\n\r\n", b"NATS/1.0\r\n\xff: \xff\r\n\r\n"):
            sender.publish(b"t.a", b"x", head=head)
        sender.publish(b"t.b", b"last")
        await eventually(lambda: received[-1:] == [b"last"], what="the last message")
        assert received[:-1] == [b"x"] * 8
        assert counted("cloudmatch_bus_unreadable_total") >= before + 4
        assert either_bus.connected
