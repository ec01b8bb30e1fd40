"""The Python client against real edges: payloads arrive once and in order, whatever breaks."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

import cloudmatch
from cloudmatch.core.outbox import MAX_PAYLOADS
from faults.link import Link
from harness import NatsServer, Service, eventually

E = TypeVar("E", bound=cloudmatch.Event)
Start = Callable[..., Service]
Fault = Callable[[cloudmatch.Device, cloudmatch.Device], Awaitable[None]]

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
RATE = 500  # payloads per s, each way
SECONDS = 3  # of traffic around a fault


@pytest.fixture
def edges(nats_server: NatsServer, start: Start) -> list[Service]:
    """Two edges and a worker on one bus."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]


def device(url: str, name: str, **more: object) -> cloudmatch.Device:
    return cloudmatch.connect(url, **{"id": name, "lat": 52.37, "lon": 4.89, "linger": 0.5, **more})


@contextlib.asynccontextmanager
async def pair(first: str, second: str) -> AsyncIterator[tuple[cloudmatch.Device, cloudmatch.Device]]:
    """Connect and match two devices."""
    async with device(first, "a") as a, device(second, "b") as b:
        assert ((await a.matched()).id, (await b.matched()).id) == ("b", "a")
        yield a, b


def payload(number: int) -> str | bytes:
    return f"{number} é".encode() if number % 3 == 0 else f"{number} é"


async def send(sender: cloudmatch.Device, count: int) -> None:
    """Send at `RATE`; the last payload with a receipt."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(count):
        await sender.send(payload(number), receipt=number == count - 1)
        await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))


async def receive(receiver: cloudmatch.Device, count: int) -> None:
    for number in range(count):
        assert await receiver.receive() == payload(number)


async def flows_through(a: cloudmatch.Device, b: cloudmatch.Device, fault: Fault) -> None:
    """Let both send while something breaks, and check that all payloads arrive once and in order."""
    lost: list[cloudmatch.Event] = []
    for each in (a, b):
        each.on(cloudmatch.PeerLeft, lost.append)
        each.on(cloudmatch.Gap, lost.append)
    count = RATE * SECONDS
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for each in (a, b):
            tasks.create_task(send(each, count))
            tasks.create_task(receive(each, count))
        await asyncio.sleep(0.5)  # payloads flow by now
        await fault(a, b)
    assert lost == []
    assert a.pending == b.pending == 0


async def next_event(events: AsyncIterator[cloudmatch.Event], kind: type[E]) -> E:
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"closed without {kind.__name__}")


async def test_two_devices_match_exchange_payloads_and_part(edges: list[Service]) -> None:
    async with device(edges[0].url, "a") as a:
        assert a.state == "waiting"
        async with device(edges[1].url, "b") as b:
            peer = await a.matched()
            assert (peer.id, peer.distance) == ("b", 1000)
            events = a.events()
            texts = [
                "ciao",
                "",
                "ciào 漢字 😀",
                '\x00\u2028"\\',
                b"",
                b"\x00\xff\r\n",
                "é" * 131_072,
                b"x" * 262_144,
            ]
            all_sent = asyncio.gather(*map(a.send, texts))  # large ones wait until b takes those before
            assert [await b.receive() for _ in texts] == texts
            await all_sent
            sending = asyncio.create_task(b.send("grazie", receipt=True))
            assert await a.receive() == "grazie"
            await sending
            with pytest.raises(cloudmatch.PayloadRefusedError):
                await a.send("x" * 262_145)
        left = await next_event(events, cloudmatch.PeerLeft)
        assert left == cloudmatch.PeerLeft(peer, "left", ())
        await next_event(events, cloudmatch.Waiting)
        async with device(edges[1].url, "c") as c:
            assert (await a.matched()).id == "c"
            a.unmatch()
            assert (await next_event(c.events(), cloudmatch.PeerLeft)).reason == "unmatched"


async def test_the_first_program_of_the_readme_runs(
    edges: list[Service], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "edge/clients/python/README.md").read_text(encoding="utf-8")
    program = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    program = program.replace("http://127.0.0.1:8080", edges[0].url)
    await asyncio.to_thread(exec, program, {})
    assert capsys.readouterr().out == "a is matched with b, 1000 m away\nb received ciao\n"


async def test_a_refused_or_replaced_device_raises(edges: list[Service]) -> None:
    with pytest.raises(cloudmatch.RefusedError) as refused:
        await device(edges[0].url, "a", lat=91).__aenter__()
    assert (refused.value.status, refused.value.code, refused.value.parameter) == (
        400,
        "bad_parameter",
        "lat",
    )
    async with device(edges[0].url, "a") as older:
        waiting = asyncio.create_task(older.matched())
        async with device(edges[1].url, "a"):
            with pytest.raises(cloudmatch.ReplacedError):
                await asyncio.wait_for(waiting, 20)


async def test_a_peer_that_takes_nothing_slows_the_sender_and_loses_nothing(
    edges: list[Service],
) -> None:
    async with pair(edges[0].url, edges[1].url) as (a, b):
        sent = 0

        async def send() -> None:
            nonlocal sent
            for number in range(1000):
                await a.send(payload(number))
                sent = number + 1

        sending = asyncio.create_task(send())
        await eventually(lambda: len(b._conversation.inbox) == MAX_PAYLOADS)
        assert sent == MAX_PAYLOADS
        assert a.pending == MAX_PAYLOADS
        await asyncio.wait_for(receive(b, 1000), 30)
        await sending


async def test_a_receipt_arrives_when_the_peer_has_taken_the_payload(edges: list[Service]) -> None:
    async with pair(edges[0].url, edges[1].url) as (a, b):
        sends = [asyncio.create_task(a.send(payload(n), receipt=True)) for n in range(20)]
        await eventually(lambda: len(b._conversation.inbox) == 20)
        assert not any(send.done() for send in sends)
        await receive(b, 10)
        await asyncio.wait_for(asyncio.gather(*sends[:10]), 10)
        assert not any(send.done() for send in sends[10:])
        b.unmatch()
        results = await asyncio.gather(*sends[10:], return_exceptions=True)
        assert {type(result) for result in results} == {cloudmatch.PeerLeftError}


async def test_dropped_connections_lose_nothing(edges: list[Service]) -> None:
    async def drop(a: cloudmatch.Device, b: cloudmatch.Device) -> None:
        events = a.events()
        for _ in range(2):
            a.drop_connection()
            await next_event(events, cloudmatch.Resumed)
            b.drop_connection()
        a.drop_connection()
        b.drop_connection()
        await next_event(events, cloudmatch.Disconnected)
        await next_event(events, cloudmatch.Resumed)
        a.drop_connection()  # two in a row: as soon as it is there again
        await next_event(events, cloudmatch.Resumed)

    async with pair(edges[0].url, edges[1].url) as (a, b):
        a.drop_connection()  # before the first payload
        await next_event(a.events(), cloudmatch.Resumed)
        await flows_through(a, b, drop)


async def test_a_drop_before_the_first_payload_loses_nothing_on_either_side(edges: list[Service]) -> None:
    async with pair(edges[0].url, edges[1].url) as (a, b):
        a.drop_connection()
        b.drop_connection()
        await asyncio.gather(a.send("uno"), b.send("one"))
        assert (await a.receive(), await b.receive()) == ("one", "uno")


async def test_a_device_that_does_not_leave_on_exit_resumes_when_entered_again(edges: list[Service]) -> None:
    b = device(edges[1].url, "b", leave_on_exit=False)
    async with device(edges[0].url, "a") as a:
        async with b:
            await a.matched()
            events = a.events()
            await a.send("one")
            assert await b.receive() == "one"
        await next_event(events, cloudmatch.PeerAway)
        await a.send("two")
        async with b:
            await next_event(events, cloudmatch.PeerBack)
            assert await b.receive() == "two"
            await b.send("due")
            assert await a.receive() == "due"
            b._leave_on_exit = True


async def test_nothing_counts_as_delivered_while_the_device_is_disconnected(edges: list[Service]) -> None:
    a = device(edges[0].url, "a", leave_on_exit=False, linger=0)
    async with device(edges[1].url, "b") as b:
        async with a:
            await b.matched()
            for number in range(MAX_PAYLOADS):
                await b.send(payload(number))
            await eventually(lambda: len(a._conversation.inbox) == MAX_PAYLOADS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(b.flush(), 2)
        assert b.pending == MAX_PAYLOADS
        async with a:
            await asyncio.wait_for(b.flush(), 20)
            await receive(a, MAX_PAYLOADS)
            a._leave_on_exit = True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
async def test_an_edge_that_stops_loses_nothing(edges: list[Service], number: signal.Signals) -> None:
    ports = [int(edge.url.rsplit(":", 1)[1]) for edge in edges]

    async def go(a: cloudmatch.Device, b: cloudmatch.Device) -> None:
        events = a.events()
        ports.reverse()
        edges[0].process.signal(number)
        await next_event(events, cloudmatch.Resumed)

    async with Link(lambda: ports) as link, pair(f"http://127.0.0.1:{link.port}", edges[1].url) as (a, b):
        await flows_through(a, b, go)
