"""Payloads of the largest size, 256 KiB: both dialects, both ways, whatever else is in flight or breaks."""

import asyncio
import json
from collections.abc import Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

import cloudmatch
from harness import NatsServer, Service, eventually
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers

Start = Callable[..., Service]
V1 = Subprotocol("cloudmatch.v1")
FULL = 256 * 1024  # bytes
TEXTS = {
    "one byte per character": "x" * FULL,
    "two": "é" * (FULL // 2),
    "three": "漢" * (FULL // 3) + "x" * (FULL % 3),
    "four": "😀" * (FULL // 4),
    "six in JSON": "\0" * FULL,
    "two in JSON": '"' * FULL,
}
SMALL = [f"small {number}" for number in range(40)]
PRESUMED = 1.5  # s after which a payload whose ack cannot be read would count as delivered


@pytest.fixture
def workers(nats_server: NatsServer, start: Start) -> list[Service]:
    """Two workers."""
    return [start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url}) for _ in range(2)]


@pytest.fixture
def edges(nats_server: NatsServer, workers: list[Service], start: Start) -> list[Service]:
    """Two edges, on one bus with the workers."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    return [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]


def sdk(edge: Service, name: str) -> cloudmatch.Device:
    return cloudmatch.connect(edge.url, id=name, lat=1, lon=1)


def mixed(name: str, rounds: int) -> list[str | bytes]:
    """Payloads of the largest size between small ones, all different."""
    made: list[str | bytes] = []
    for number in range(rounds):
        made += [f"{name}{number} {text}" for text in SMALL]
        made.append(f"{name}{number} ".ljust(FULL, "x"))
        made.append(f"{name}{number} ".encode().ljust(FULL, b"\xff"))
    return made


async def exchange(
    a: cloudmatch.Device, b: cloudmatch.Device, rounds: int, *faults: Callable[[], object]
) -> None:
    """Let both send while `faults` happen, one after the other; each payload arrives once and in order."""
    half = asyncio.Event()

    async def send(sender: cloudmatch.Device, payloads: list[str | bytes]) -> None:
        for number, payload in enumerate(payloads):
            await sender.send(payload, receipt=number == len(payloads) - 1)
            if number == len(payloads) // 3:
                half.set()

    async def receive(receiver: cloudmatch.Device, payloads: list[str | bytes]) -> None:
        for payload in payloads:
            received = await receiver.receive()
            assert received == payload, f"{payload[:20]!r} expected, got {received[:20]!r}"

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for sender, receiver in ((a, b), (b, a)):
            payloads = mixed(sender.id, rounds)
            tasks.create_task(send(sender, payloads))
            tasks.create_task(receive(receiver, payloads))
        await half.wait()
        for fault in faults:
            await asyncio.to_thread(fault)


async def test_full_payloads_pass_both_ways_between_small_ones_while_workers_are_killed(
    edges: list[Service], workers: list[Service]
) -> None:
    async with sdk(edges[0], "a") as a, sdk(edges[1], "b") as b:
        await a.matched()
        await b.matched()
        await exchange(a, b, 12, workers[0].kill, workers[0].restart, workers[1].kill, workers[1].restart)
        assert a.pending == b.pending == 0


async def test_full_payloads_both_ways_do_not_keep_acks_from_being_read(edges: list[Service]) -> None:
    """Of two devices with a full payload in flight each, neither is presumed to have taken the other's."""
    async with sdk(edges[0], "a") as a, sdk(edges[1], "b") as b:
        await a.matched()
        await b.matched()
        sending = [asyncio.create_task(each.send("x" * FULL, receipt=True)) for each in (a, b)]
        for edge in edges:
            await eventually(lambda e=edge: e.metric("cloudmatch_edge_payloads_sent_total") == 1)
        a.move(1, 1)  # what waits for credit would stop the edge from reading
        b.move(1, 1)
        done, _ = await asyncio.wait(sending, timeout=PRESUMED)
        assert not done, "a payload that nobody has taken counts as delivered"
        assert len(await a.receive()) == len(await b.receive()) == FULL
        await asyncio.wait_for(asyncio.gather(*sending), 10)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("dialects", ["classic to v1", "v1 to classic", "classic to classic"])
async def test_a_full_text_passes_behind_small_ones_in_flight(
    edges: list[Service], dialects: str, text: str
) -> None:
    assert len(text.encode()) == FULL
    async with (
        bare(edges[0], "a", v1=dialects.startswith("v1")) as a,
        bare(edges[1], "c", v1=dialects.endswith("v1")) as c,
    ):
        await matched(a)
        await matched(c)
        payloads = [*SMALL, text, "last"]
        await asyncio.gather(*(a.send(framed(a, each)) for each in payloads))
        for number, payload in enumerate(payloads, 1):
            assert await heard(c, number) == payload


@pytest.mark.parametrize("v1", [False, True])
async def test_a_slow_reader_gets_thirty_full_payloads_in_order(edges: list[Service], v1: bool) -> None:
    async with device(edges[0], "a", 1, 1) as a, bare(edges[1], "c", v1=v1, max_queue=1) as c:
        await matched(a)
        await matched(c)
        texts = [f"{number} ".ljust(FULL, "x") for number in range(30)]

        async def send() -> None:
            for text in texts:
                await a.send(text)

        sending = asyncio.create_task(send())
        await eventually(lambda: edges[0].metric("cloudmatch_edge_payloads_sent_total") >= 2)
        for number, text in enumerate(texts, 1):
            assert await heard(c, number) == text
            if number % 10 == 0:  # reads on once the sender has gone as far as it can
                await stalled(edges[0])
        await sending
        assert edges[0].metric("cloudmatch_edge_payloads_undelivered_total") == 0


async def stalled(edge: Service) -> None:
    """Return once the edge has accepted nothing more between two looks at it."""
    before = -1.0
    async with asyncio.timeout(20):
        while (now := edge.metric("cloudmatch_edge_payloads_sent_total")) != before:
            before = now
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("binary", [False, True])
async def test_one_byte_more_costs_only_its_sender(edges: list[Service], binary: bool) -> None:
    """1009 for a classic text or a binary payload; a text of cloudmatch.v1 is refused with an error."""
    async with bare(edges[0], "a", v1=binary) as a, bare(edges[1], "c", v1=True) as c:
        await matched(a)
        await matched(c)
        await a.send(b"\xff" * FULL if binary else "x" * FULL)
        await a.send(b"\xff" * (FULL + 1) if binary else "x" * (FULL + 1))
        await asyncio.wait_for(a.wait_closed(), 10)
        assert a.close_code == 1009
        assert len(await heard(c, 1)) == FULL
        async with device(edges[0], "d", 1, 1) as d:
            if binary:  # `cloudmatch.v1`: c would wait for the return of its peer
                await message(c, "peer_away")
                await c.send('{"type":"unmatch"}')
            assert await receive_text(d) == "I matched with device 'c'!"
            await d.send("are you all right?")
            assert await heard(c, 1) == "are you all right?"


async def test_a_text_of_one_byte_more_is_refused_and_its_sender_goes_on(edges: list[Service]) -> None:
    async with bare(edges[0], "a", v1=True) as a, bare(edges[1], "c", v1=False) as c:
        await matched(a)
        await matched(c)
        await a.send(json.dumps({"type": "message", "text": "é" * (FULL // 2) + "x", "ref": "r"}))
        error = await message(a, "error")
        assert (error["code"], error["ref"]) == ("payload_too_large", "r")
        assert error["detail"] == f"text has {FULL + 1} bytes, at most {FULL} are allowed"
        await a.send(framed(a, "ciao"))
        assert await heard(c, 1) == "ciao"


# -- bare sockets of either dialect


def bare(edge: Service, name: str, *, v1: bool, max_queue: int = 16) -> connect:
    url = edge.url.replace("http", "ws") + f"/device/connect?id={name}&lat=1&lon=1"
    return connect(url, subprotocols=[V1] if v1 else None, max_size=None, max_queue=max_queue)


async def message(socket: ClientConnection, kind: str) -> dict[str, object]:
    """Return the next message of this type."""
    while True:
        frame = await asyncio.wait_for(socket.recv(), 20)
        if isinstance(frame, str) and (found := json.loads(frame))["type"] == kind:
            return found


async def matched(socket: ClientConnection) -> None:
    """Wait for a match, and acknowledge it."""
    if socket.subprotocol == V1:
        number = (await message(socket, "matched"))["match"]
        await socket.send(json.dumps({"type": "ack", "received": 0, "match": number}))
    else:
        while not (await receive_text(socket)).startswith("I matched with"):
            pass


def framed(socket: ClientConnection, text: str) -> str:
    """A payload in its sender's dialect; JSON in the longest form, with escapes."""
    return json.dumps({"type": "message", "text": text}) if socket.subprotocol == V1 else text


async def heard(socket: ClientConnection, number: int) -> str | bytes:
    """Return the next payload, number `number`, and acknowledge it."""
    if socket.subprotocol != V1:
        return (await receive_text(socket)).partition(" says: ")[2]
    while True:
        frame = await asyncio.wait_for(socket.recv(), 20)
        found = (
            json.loads(frame) if isinstance(frame, str) else {"type": "message", "n": number, "text": frame}
        )
        if found["type"] == "matched":
            await socket.send(json.dumps({"type": "ack", "received": 0, "match": found["match"]}))
        elif found["type"] == "message":
            assert found["n"] == number
            await socket.send(json.dumps({"type": "ack", "received": number}))
            payload: str | bytes = found["text"]
            return payload
