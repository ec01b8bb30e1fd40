"""What docs/differences-from-2019.md says of devices and of states, where no other test holds it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from harness import NatsServer, Service, eventually, eventually_sync
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers
Start = Callable[..., Service]
HEARTBEAT = 0.5  # s


@pytest.fixture
def match_engine(nats_server: NatsServer, start: Start) -> Service:
    return start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url})


@pytest.fixture
def edge(nats_server: NatsServer, match_engine: Service, start: Start) -> Service:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    return start("edge", {**bus, "CLOUDMATCH_EDGE_HEARTBEAT": str(HEARTBEAT)})


@pytest.fixture
def journal(nats_server: NatsServer, start: Start) -> Service:
    return start("journal", {"CLOUDMATCH_NATS_URL": nats_server.url})


def report(journal: Service, amount: int, kind: str = "connectionsOpen") -> int:
    """Report an amount about a device; return the status."""
    fields = {"deviceId": "a", "eventType": kind, "amount": amount}
    return journal.get("/device/event", json.dumps(fields).encode())[0]


def state(journal: Service) -> dict[str, Any] | None:
    status, text = journal.get("/device/state/a")
    return json.loads(text) if status == 200 else None


async def test_fractions_of_degrees_match_and_whoever_left_is_not_matched(
    match_engine: Service, edge: Service
) -> None:
    # match-engine learns of departures and arrivals by messages: either may come first
    async with device(edge, "ghost", 1.5, 1.5):
        await eventually(lambda: match_engine.metric("cloudmatch_match_engine_devices") == 1, 10)
    await eventually(lambda: match_engine.metric("cloudmatch_match_engine_devices") == 0, 10)
    async with device(edge, "a", 1.25, 1.5) as a, device(edge, "c", 1.75, 1.5) as c:
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"


@pytest.mark.parametrize("query", ["id=a&lat=1", "id=a&lat=200&lon=1", "id=&lat=1&lon=1"])
async def test_missing_empty_and_impossible_parameters_are_400(edge: Service, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{edge.url.replace('http', 'ws')}/device/connect?{query}")
    assert refused.value.response.status_code == 400


async def test_a_silent_device_stays_and_one_that_answers_no_ping_is_closed_with_4008(edge: Service) -> None:
    host, _, port = edge.url.rpartition("/")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with device(edge, "silent", 1, 1) as silent:
        writer.write(
            b"GET /device/connect?id=deaf&lat=50&lon=50 HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
            b"MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n"
        )
        heard = await asyncio.wait_for(reader.readuntil(b"Connected and handled by edge-0"), 20)
        assert heard.startswith(b"HTTP/1.1 101")
        for _ in range(4):
            assert await asyncio.wait_for(reader.readexactly(2), 20) == b"\x89\x00"
        close = await asyncio.wait_for(reader.readexactly(4), 20)
        assert (close[0], int.from_bytes(close[2:])) == (0x88, 4008)
        writer.close()
        async with device(edge, "b", 1, 1) as b:
            assert await receive_text(b) == "I matched with device 'silent'!"
            assert await receive_text(silent) == "I matched with device 'b'!"


async def test_sums_exceed_32_bits_may_be_zero_again_and_survive_a_restart(journal: Service) -> None:
    assert report(journal, 2**31 - 1) == 200
    assert report(journal, 2**31 - 1) == 200
    await eventually(lambda: (found := state(journal)) and found["connectionsOpen"] == 2**32 - 2)
    assert report(journal, 2 - 2**32) == 200
    await eventually(lambda: (found := state(journal)) and found["connectionsOpen"] == 0)
    journal.restart()
    eventually_sync(lambda: (found := state(journal)) and found["connectionsOpen"] == 0, what="the state")


async def test_a_report_that_is_refused_leaves_the_state_readable(journal: Service) -> None:
    assert report(journal, 4, "bytesSent") == 200
    await eventually(lambda: (found := state(journal)) and found["bytesSent"] == 4)
    assert report(journal, 5, "bytes_sent") == 400
    assert report(journal, -5, "bytesSent") == 400
    assert report(journal, 10**15) == 400
    assert (found := state(journal)) is not None
    assert found["bytesSent"] == 4
