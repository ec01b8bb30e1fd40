"""The Python client's device against a minimal server in this process."""

import asyncio
import contextlib
import http
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import uvloop
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

import cloudmatch
from cloudmatch.core.inbox import ACK_DELAY
from cloudmatch.core.outbox import MAX_PAYLOADS
from harness import eventually

V1 = [Subprotocol("cloudmatch.v1")]
WELCOME = {
    "type": "welcome",
    "device": "a",
    "session": "s",
    "resume": "token",
    "grace": 30,
    "max_payload": 262_144,
}
WAITING = {"type": "waiting", "since": 0}
MATCHED = {"type": "matched", "match": 7, "peer": "b", "distance": 1.5}


class Server:
    """Passes each connection to `script`, which a test may replace between connections."""

    def __init__(self, script: Callable[["Server", ServerConnection], Awaitable[None]]) -> None:
        self.script = script
        self.url = ""
        self.queries: list[dict[str, str]] = []
        self.received: list[Any] = []

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        self.queries.append({name: value for name, [value] in query.items()})
        with contextlib.suppress(ConnectionClosed):
            await self.script(self, socket)

    async def listen(self, socket: ServerConnection) -> None:
        """Keep the device's frames; close when it leaves."""
        async for frame in socket:
            message = json.loads(frame) if isinstance(frame, str) else frame
            self.received.append(message)
            if isinstance(message, dict) and message["type"] == "leave":
                await socket.close(1000)


async def send(socket: ServerConnection, *frames: dict[str, Any]) -> None:
    for frame in frames:
        await socket.send(json.dumps(frame))


async def matches(server: Server, socket: ServerConnection) -> None:
    await send(socket, WELCOME, WAITING, MATCHED)
    await server.listen(socket)


async def waits(server: Server, socket: ServerConnection) -> None:
    await send(socket, WELCOME, WAITING)
    await server.listen(socket)


@contextlib.asynccontextmanager
async def server(
    script: Callable[[Server, ServerConnection], Awaitable[None]] = matches, **more: Any
) -> AsyncIterator[Server]:
    it = Server(script)
    async with serve(it.handle, "127.0.0.1", 0, **{"subprotocols": V1, **more}) as listening:
        it.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield it


def device(url: str | list[str], **more: Any) -> cloudmatch.Device:
    return cloudmatch.connect(url, **{"id": "a", "lat": 52.37, "lon": 4.89, "linger": 0.2, **more})


async def test_a_device_connects_with_its_parameters_and_leaves_at_the_end() -> None:
    async with server() as it:
        async with device(it.url, app="demo", radius=250, tag="red & green") as a:
            assert await a.matched() == cloudmatch.Peer("b", 1.5, 7)
            assert (a.id, a.state) == ("a", "matched")
        assert it.queries == [
            {
                "id": "a",
                "lat": "52.37",
                "lon": "4.89",
                "app": "demo",
                "radius": "250",
                "tag": "red & green",
            }
        ]
        assert it.received[-1] == {"type": "leave"}
        assert a.state == "closed"
        with pytest.raises(cloudmatch.ClosedError):
            await a.send("more")


async def test_iterating_yields_the_payloads_and_ends_with_the_device() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        await send(
            socket, WELCOME, WAITING, MATCHED, {"type": "message", "from": "b", "n": 1, "text": "ciao"}
        )
        await socket.send(b"\x00\xff")
        await it.listen(socket)

    got: list[str | bytes] = []
    async with server(script) as it, device(it.url) as a:
        async for payload in a:
            got.append(payload)
            if len(got) == 2:
                leaving = asyncio.create_task(a.leave())
        await leaving
    assert got == ["ciao", b"\x00\xff"]


def test_a_device_runs_on_uvloop_whose_handles_have_no_time() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, WAITING, MATCHED)
        await asyncio.sleep(2 * ACK_DELAY)  # then the next ack is due at once
        for n in (1, 2):
            await send(socket, {"type": "message", "from": "b", "n": n, "text": f"{n}"})
        await it.listen(socket)

    async def receive() -> list[str | bytes]:
        async with server(script) as it, device(it.url) as a:
            return [await a.receive() for _ in range(2)]

    assert uvloop.run(receive()) == ["1", "2"]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://"])
def test_an_invalid_url_is_rejected_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="a server's URL looks like"):
        device(url)


async def test_a_refusal_names_what_is_wrong() -> None:
    def refuse(socket: ServerConnection, request: Request) -> Response:
        error = {"code": "bad_parameter", "parameter": "lat", "detail": "must be from -90 to 90 degrees"}
        return Response(400, "Bad Request", Headers(), json.dumps({"error": error}).encode())

    async with server(process_request=refuse) as it:
        with pytest.raises(cloudmatch.RefusedError, match="lat: must be from -90 to 90") as refused:
            await device(it.url, lat=91).__aenter__()
    assert (refused.value.status, refused.value.code, refused.value.parameter) == (
        400,
        "bad_parameter",
        "lat",
    )


async def test_a_missing_server_is_tried_until_the_timeout() -> None:
    async with server() as it:
        pass
    with pytest.raises(cloudmatch.UnreachableError, match="no connection to http") as unreachable:
        await device(it.url, timeout=0.3).__aenter__()
    assert isinstance(unreachable.value.__cause__, OSError)


async def test_a_server_that_starts_late_is_found() -> None:
    calls = 0

    def busy(socket: ServerConnection, request: Request) -> Response | None:
        nonlocal calls
        calls += 1
        return socket.respond(http.HTTPStatus.BAD_GATEWAY, "not yet") if calls < 3 else None

    async with server(process_request=busy) as it, device(it.url) as a:
        await a.matched()
    assert calls == 3


async def test_a_full_server_is_tried_again_no_sooner_than_it_asks_and_says_why() -> None:
    loop = asyncio.get_running_loop()
    attempts: list[float] = []

    def busy(socket: ServerConnection, request: Request) -> Response | None:
        attempts.append(loop.time())
        if len(attempts) > 1:
            return None
        error = {"code": "edge_full", "detail": "full: 2 of 2 devices"}
        return Response(503, "", Headers({"Retry-After": "2"}), json.dumps({"error": error}).encode())

    async with server(process_request=busy) as it:
        a = device(it.url)
        events = a.events()
        async with a:
            assert await anext(events) == cloudmatch.ServerError("edge_full", "full: 2 of 2 devices")
            assert attempts[1] - attempts[0] >= 2  # without the header half a second or more


async def test_a_device_of_several_edges_passes_over_those_that_fail() -> None:
    def broken(socket: ServerConnection, request: Request) -> Response:
        return Response(502, "Bad Gateway", Headers(), b"")

    urls = ["http://127.0.0.1:1"]
    async with server(process_request=broken) as bad, server() as good:
        async with device([*urls, bad.url, good.url], timeout=5) as a:
            assert (await a.matched()).id == "b"
        with pytest.raises(cloudmatch.UnreachableError, match=f"no connection to {urls[0]} or {bad.url}: "):
            await device([*urls, bad.url], timeout=0.2).__aenter__()


async def test_a_server_that_does_not_speak_the_dialect_is_refused() -> None:
    async def classic(_: Server, socket: ServerConnection) -> None:
        await socket.send("Connected and handled by edge-0")
        await socket.wait_closed()

    async with server(classic, subprotocols=None) as it:
        with pytest.raises(cloudmatch.RefusedError, match=r"does not speak cloudmatch\.v1"):
            await device(it.url).__aenter__()


async def test_a_replaced_device_raises_wherever_it_waits() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, WAITING, MATCHED)
        async for frame in socket:
            if "hold on" in str(frame):
                await socket.close(4001)

    async with server(script) as it, device(it.url) as a:
        await a.matched()
        events = a.events()
        for waiting in asyncio.as_completed([a.receive(), a.send("hold on", receipt=True)]):
            with pytest.raises(cloudmatch.ReplacedError):
                await waiting
        ending = [event async for event in events]
        assert isinstance(ending[-1], cloudmatch.Closed)
        assert ending[-1].undelivered == ("hold on",)
        assert len(it.queries) == 1


async def test_a_lost_connection_is_restored_and_its_payloads_continue() -> None:
    async def first(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, WAITING, MATCHED, {"type": "message", "from": "b", "n": 1, "text": "one"})
        async for frame in socket:
            if "uno" in str(frame):
                it.script = second
                socket.transport.abort()

    async def second(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, {**MATCHED, "type": "resumed", "received": 0})
        await send(socket, {"type": "message", "from": "b", "n": 2, "text": "two"})
        async for frame in socket:
            if "uno" in str(frame):
                await send(socket, {"type": "receipt", "ref": json.loads(frame)["ref"]})
            elif "leave" in str(frame):
                await socket.close(1000)

    async with server(first) as it, device(it.url) as a:
        events = a.events()
        peer = await a.matched()
        await a.send("uno", receipt=True)
        assert [await a.receive(), await a.receive()] == ["one", "two"]
        assert it.queries[1].items() >= {"resume": "token", "received": "1", "match": "7"}.items()
        assert isinstance(await anext(events), cloudmatch.Disconnected)
        assert await anext(events) == cloudmatch.Resumed(peer)


async def test_send_waits_while_too_many_payloads_are_in_flight() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, WAITING, MATCHED)
        listening = asyncio.create_task(it.listen(socket))
        await eventually(lambda: len(it.received) == 1 + MAX_PAYLOADS)
        assert not sending.done()
        await send(socket, {"type": "ack", "delivered": 1})
        await listening

    async def send_all(a: cloudmatch.Device) -> None:
        await a.matched()
        for number in range(MAX_PAYLOADS + 1):
            await a.send(str(number))

    async with server(script) as it, device(it.url) as a:
        sending = asyncio.create_task(send_all(a))
        await sending
        await eventually(lambda: len(it.received) == 2 + MAX_PAYLOADS)
        assert [frame["text"] for frame in it.received[1:]] == [
            str(number) for number in range(MAX_PAYLOADS + 1)
        ]


async def test_a_peer_that_leaves_fails_undelivered_payloads_and_pending_sends() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, WAITING, MATCHED)
        listening = asyncio.create_task(it.listen(socket))
        await eventually(lambda: len(it.received) == 1 + MAX_PAYLOADS)
        await send(socket, {"type": "peer_left", "peer": "b", "reason": "expired"}, WAITING)
        await listening

    async with server(script) as it, device(it.url) as a:
        await a.matched()
        left: list[cloudmatch.PeerLeft] = []
        a.on(cloudmatch.PeerLeft, left.append)
        sends = [asyncio.create_task(a.send(str(n), receipt=n % 2 == 0)) for n in range(MAX_PAYLOADS + 10)]
        done = await asyncio.gather(*sends, return_exceptions=True)
        for number, result in enumerate(done):
            if number % 2 and number < MAX_PAYLOADS:
                assert result is None
            else:
                assert isinstance(result, cloudmatch.PeerLeftError)
                assert (result.peer, result.reason) == ("b", "expired")
        await eventually(lambda: left)
        assert left[0].undelivered == tuple(str(n) for n in range(MAX_PAYLOADS))
        with pytest.raises(cloudmatch.NotMatchedError):
            await a.send("anyone?")


async def test_a_payload_that_is_too_large_is_refused_before_it_is_sent() -> None:
    async with server() as it, device(it.url) as a:
        await a.matched()
        with pytest.raises(cloudmatch.PayloadRefusedError, match="262146 bytes exceed the limit of 262144"):
            await a.send("é" * 131_073)
        await a.send("é" * 131_072)
        await eventually(lambda: len(it.received) == 2)


async def test_leaving_waits_until_payloads_are_delivered() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        await send(socket, WELCOME, WAITING, MATCHED)
        async for frame in socket:
            it.received.append(json.loads(frame)["type"])
            if it.received[-1] == "message":
                asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(deliver(socket)))
            elif it.received[-1] == "leave":
                assert delivered
                await socket.close(1000)

    async def deliver(socket: ServerConnection) -> None:
        delivered.append(True)
        await send(socket, {"type": "ack", "delivered": 1})

    delivered: list[bool] = []
    async with server(script) as it:
        async with device(it.url, linger=10) as a:
            await a.matched()
            await a.send("ciao")
        assert it.received == ["ack", "message", "leave"]


async def test_a_device_that_does_not_leave_on_exit_resumes_when_entered_again() -> None:
    async with server() as it:
        a = device(it.url, leave_on_exit=False)
        async with a:
            await a.matched()
        assert a.state == "connecting"
        async with a:
            assert it.queries[1].items() >= {"resume": "token", "match": "7"}.items()
        assert {"type": "leave"} not in it.received


async def test_a_device_sends_its_move_and_its_unmatch() -> None:
    async with server() as it, device(it.url) as a:
        await a.matched()
        a.move(-33.9, 18.4)
        a.unmatch()
        assert a.peer is None
        await eventually(lambda: len(it.received) == 3)
        assert it.received[1:] == [{"type": "locate", "lat": -33.9, "lon": 18.4}, {"type": "unmatch"}]


async def test_a_waiting_device_can_be_cancelled_and_leaves() -> None:
    async with server(waits) as it:

        async def life() -> None:
            async with device(it.url) as a:
                await a.matched()

        living = asyncio.create_task(life())
        await eventually(lambda: it.queries)
        living.cancel()
        with pytest.raises(asyncio.CancelledError):
            await living
