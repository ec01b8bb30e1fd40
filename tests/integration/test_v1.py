"""cloudmatch.v1 on bare sockets, with classic devices as peers, on edges that freeze."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from harness import NatsServer, Service, eventually

V1 = Subprotocol("cloudmatch.v1")


@pytest.fixture
def edges(nats_server: NatsServer, start: Callable[..., Service]) -> list[Service]:
    """Two edges and a worker on one bus."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return [
        start(
            "edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}", "CLOUDMATCH_EDGE_CONNECTS_PER_DEVICE": "0"}
        )
        for i in range(2)
    ]


class Device:
    """A device that keeps all frames it receives, and acknowledges payloads."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[Any] = []
        self._task = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.socket:
                self.received.append(frame)
                if self.socket.subprotocol and isinstance(frame, str):
                    self.received[-1] = message = json.loads(frame)
                    if message["type"] == "message":
                        await self.send(type="ack", received=message["n"])

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def receives(self, frame: Any) -> None:
        await eventually(lambda: frame in self.received, 20, f"{frame!r} among {self.received}")

    async def first(self, kind: str) -> Any:
        """Return the first message of this type, once it has arrived."""
        await eventually(lambda: kind in self.types, 20, f"{kind} among {self.received}")
        return next(frame for frame in self.received if isinstance(frame, dict) and frame["type"] == kind)

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.received if isinstance(frame, dict)]


@contextlib.asynccontextmanager
async def device(edge: Service, name: str, lon: float, *, v1: bool = True) -> AsyncIterator[Device]:
    url = edge.url.replace("http", "ws") + f"/device/connect?id={name}&lat=1&lon={lon}"
    async with connect(url, subprotocols=[V1] if v1 else None, ping_timeout=None) as socket:
        yield Device(socket)


@contextlib.contextmanager
def frozen(edge: Service) -> Any:
    edge.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        edge.process.signal(signal.SIGCONT)


async def test_a_device_that_offers_only_unknown_subprotocols_is_rejected(edges: list[Service]) -> None:
    url = edges[0].url.replace("http", "ws") + "/device/connect?id=a&lat=1&lon=1"
    with pytest.raises(InvalidStatus) as rejected:
        async with connect(url, subprotocols=[Subprotocol("cloudmatch.v9")]):
            pass
    assert rejected.value.response.status_code == 400
    assert json.loads(rejected.value.response.body or b"")["error"]["code"] == "unknown_subprotocol"
    async with connect(url, subprotocols=[Subprotocol("cloudmatch.v9"), V1]) as socket:
        assert socket.subprotocol == V1


async def test_devices_of_both_dialects_exchange_payloads(edges: list[Service]) -> None:
    async with device(edges[0], "a", 1) as a, device(edges[1], "c", 2, v1=False) as c:
        matched = await a.first("matched")
        assert matched["peer"] == "c"
        assert a.types == ["welcome", "waiting", "matched"]
        assert matched["distance"] == 110_000
        await c.receives("I matched with device 'a'!")
        await a.send(type="message", text="ciào", ref="r")
        await a.socket.send(b"\x00\xff")
        await c.receives("device a says: ciào")
        await c.receives(b"\x00\xff")
        await a.first("receipt")
        await a.receives({"type": "ack", "delivered": 2})
        await c.socket.send("salve")
        assert await a.first("message") == {"type": "message", "from": "c", "n": 1, "text": "salve"}
        await c.socket.close()
        assert await a.first("peer_left") == {"type": "peer_left", "peer": "c", "reason": "left"}
        await eventually(lambda: a.types[-1] == "waiting")


async def test_of_two_connections_at_the_same_moment_exactly_one_stays(edges: list[Service]) -> None:
    for _ in range(5):
        async with contextlib.AsyncExitStack() as stack:
            both = await asyncio.gather(
                *(stack.enter_async_context(device(edge, "a", 1)) for edge in edges),
            )
            await eventually(lambda both=both: any(d.socket.close_code for d in both))
            codes = {d.socket.close_code for d in both}
            assert codes == {4001, None}
            stays = next(d for d in both if d.socket.close_code is None)
            partner = await stack.enter_async_context(device(edges[0], "b", 2))
            await partner.first("matched")
            await stays.first("matched")
            assert stays.socket.close_code is None
            await stays.send(type="leave")
            await stays.socket.wait_closed()


async def test_a_classic_device_of_an_edge_that_froze_enters_the_pool_again_on_its_socket(
    edges: list[Service],
) -> None:
    async with device(edges[0], "a", 1, v1=False) as a, device(edges[1], "c", 2, v1=False) as c:
        await a.receives("I matched with device 'c'!")
        with frozen(edges[0]):
            async with device(edges[1], "b", 3, v1=False) as b:
                await b.receives("I matched with device 'c'!")
                await c.socket.send("to b")
                await b.receives("device c says: to b")
        # The edge runs again, and b has left: the two are matched once more.
        await eventually(lambda: a.received.count("I matched with device 'c'!") == 2, 20, "the second match")
        await a.socket.send("here again")
        await c.receives("device a says: here again")


async def test_a_device_whose_edge_froze_continues_its_match(edges: list[Service]) -> None:
    async with device(edges[0], "a", 1) as a, device(edges[1], "c", 2) as c:
        await a.first("matched")
        await c.first("matched")
        with frozen(edges[0]):
            await c.first("peer_away")
            await c.send(type="message", text="while you were away", ref="r")
            await a.send(type="message", text="from the ice")
        await c.first("peer_back")
        assert (await a.first("message"))["text"] == "while you were away"
        assert (await c.first("message"))["text"] == "from the ice"
        await c.first("receipt")
        assert "peer_left" not in a.types + c.types
