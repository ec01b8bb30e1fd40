"""Quotas of a real edge, each tiny: so many are accepted, one more is refused, and works again later."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

import cloudmatch
from harness import Service, eventually, nats_server, service

pytestmark = pytest.mark.servers
QUOTAS = {
    "TRUSTED_PROXIES": "127.0.0.1",
    "CONNECTIONS_PER_ADDRESS": "3",
    "CONNECTS_PER_ADDRESS": "1",  # 10 at once
    "CONNECTS_PER_DEVICE": "1",
    "CONNECTIONS_PER_APP": "4",
    "SILENT_MATCH": "0.5",
    "CONTROL": "2",  # 10 at once
    "MESSAGE_TIMEOUT": "0.5",
    "HEARTBEAT": "0.6",  # 1.7 pongs a second
    "FRAMES": "100",
}


@pytest.fixture(scope="module")
def edge() -> Iterator[Service]:
    with nats_server() as nats:
        bus = {"CLOUDMATCH_NATS_URL": nats.url}
        quotas = {f"CLOUDMATCH_EDGE_{name}": value for name, value in QUOTAS.items()}
        with service("match-engine", bus), service("edge", bus | quotas) as edge:
            yield edge


def opening(edge: Service, name: str, address: str, app: str, dialect: str = "") -> connect:
    url = edge.url.replace("http", "ws") + f"/device/connect?id={name}&lat=1&lon=1&app={app}"
    headers = {"X-Forwarded-For": address} if address else {}
    dialects = [Subprotocol(dialect)] if dialect else None
    return connect(url, additional_headers=headers, subprotocols=dialects, close_timeout=1)


async def refused(edge: Service, name: str, address: str, app: str) -> tuple[str, int]:
    """Connect a device that is refused; return the code of the error, and for how many seconds."""
    with pytest.raises(InvalidStatus) as refusal:
        await opening(edge, name, address, app)
    answer = refusal.value.response
    assert answer.status_code == 429
    code: str = json.loads(answer.body)["error"]["code"]
    return code, int(answer.headers["Retry-After"])


@contextlib.asynccontextmanager
async def crowd(edge: Service, count: int, address: str, app: str) -> AsyncIterator[list[ClientConnection]]:
    async with contextlib.AsyncExitStack() as stack:
        names = (f"{address}-{number}" for number in range(count))
        yield [await stack.enter_async_context(opening(edge, name, address, app)) for name in names]


async def test_an_address_has_so_many_connections_and_another_when_one_has_ended(edge: Service) -> None:
    async with crowd(edge, 3, "192.0.2.1", "places") as devices:
        assert await refused(edge, "x", "192.0.2.1", "places") == ("too_many_connections", 5)
        assert edge.get("/system/liveness") == (200, "alive")
        async with opening(edge, "other", "192.0.2.2", "places"):
            await devices[0].close()
            async with opening(edge, "x", "192.0.2.1", "places") as socket:
                assert str(await socket.recv()).startswith("Connected")


async def test_an_address_connects_so_many_devices_a_second_and_waits_as_long_as_it_is_told(
    edge: Service,
) -> None:
    for number in range(10):
        async with opening(edge, f"quick-{number}", "2001:db8::1", "rate"):
            pass
    code, seconds = await refused(edge, "x", "2001:db8::2", "rate")  # of the same /64
    assert (code, seconds) == ("too_many_connections", 1)
    async with opening(edge, "other", "2001:db8:0:1::1", "rate"):
        pass
    await asyncio.sleep(seconds)
    async with opening(edge, "x", "2001:db8::2", "rate") as socket:
        assert str(await socket.recv()).startswith("Connected")


async def test_an_app_has_so_many_devices_and_others_have_theirs(edge: Service) -> None:
    async with crowd(edge, 4, "", "few") as devices:
        assert await refused(edge, "x", "", "few") == ("app_quota", 5)
        async with opening(edge, "x", "", "many"):
            await devices[0].close()
            await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 4)
        async with opening(edge, "x", "", "few") as socket:
            assert str(await socket.recv()).startswith("Connected")


async def end_of_match(events: AsyncIterator[cloudmatch.Event]) -> str:
    """Return why a match ends."""
    return await anext(event.reason async for event in events if isinstance(event, cloudmatch.PeerLeft))


async def test_a_match_without_a_payload_ends_and_both_wait_but_not_for_each_other(edge: Service) -> None:
    devices = [cloudmatch.connect(edge.url, id=name, lat=1, lon=1, app="silent") for name in "ab"]
    events = [device.events() for device in devices]
    async with devices[0] as a, devices[1]:
        await a.matched()
        await a.send("a payload")
        assert [await end_of_match(each) for each in events] == ["expired", "expired"]
        async with opening(edge, "c", "", "silent"):
            await a.matched()


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Wait until the edge closes a connection; return the code and why."""
    async with asyncio.timeout(10):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code, str(socket.close_reason)


async def test_pings_and_nonsense_close_with_1008_beyond_what_anybody_needs(edge: Service) -> None:
    async with (
        opening(edge, "a", "", "control") as pinging,
        opening(edge, "b", "", "control", "cloudmatch.v1") as babbling,
        opening(edge, "c", "", "control", "cloudmatch.v1") as modest,
    ):
        for number in range(12):
            await pinging.ping(str(number))
            await babbling.send("nonsense")
            if number < 8:
                await modest.send('{"type":"ping"}')
        assert await closed(pinging) == (1008, "too many control frames")
        assert await closed(babbling) == (1008, "too many control frames")
        await (await modest.ping())


async def test_a_message_that_does_not_end_closes_with_1008_and_others_do_not(edge: Service) -> None:
    async def endless() -> AsyncIterator[str]:
        yield "a part"
        await asyncio.sleep(60)

    async with (
        opening(edge, "a", "", "parts") as slow,
        opening(edge, "b", "", "parts", "cloudmatch.v1") as quick,
    ):
        sending = asyncio.create_task(slow.send(endless()))
        assert await closed(slow) == (1008, "a message took too long")
        sending.cancel()
        await quick.send(['{"type":', '"ping"}'])
        async for frame in quick:
            if json.loads(frame)["type"] == "pong":
                break


async def test_a_device_beyond_its_pace_is_read_later_and_loses_nothing(edge: Service) -> None:
    async with (
        cloudmatch.connect(edge.url, id="a", lat=1, lon=1, app="pace") as fast,
        cloudmatch.connect(edge.url, id="b", lat=1, lon=1, app="pace") as peer,
    ):
        await fast.matched()
        began = time.monotonic()
        sending = asyncio.create_task(send_all(fast, 200))
        assert [await peer.receive() for _ in range(200)] == [str(number) for number in range(200)]
        assert time.monotonic() - began > 0.5, "a second's worth at once, then 100 a second"
        await sending


async def send_all(device: cloudmatch.Device, count: int) -> None:
    for number in range(count):
        await device.send(str(number))


async def test_an_id_connects_ten_times_at_once_and_a_client_that_is_refused_comes_back(
    edge: Service,
) -> None:
    for _ in range(10):
        async with opening(edge, "restless", "", "ids"):
            pass
    assert await refused(edge, "restless", "", "ids") == ("rate_limited", 1)
    device = cloudmatch.connect(edge.url, id="restless", lat=1, lon=1, app="ids", timeout=20)
    events = device.events()
    async with device, opening(edge, "peer", "", "ids"):
        assert (await device.matched()).id == "peer"
    assert cloudmatch.ServerError(
        "rate_limited", "this id has connected too often, or was taken over too often"
    ) in [event async for event in events]
    assert edge.metric('cloudmatch_edge_devices_over_quota_total{code="rate_limited"}') >= 2
