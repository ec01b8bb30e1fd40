"""Edges behind nginx and HAProxy: as documented, with idle time-outs, and broken on purpose."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

import cloudmatch
from cloudmatch.cli import doctor
from harness import Service, nats_server, service
from harness.classic import receive_text
from harness.page import Visitor, chromium, matched
from harness.processes import ROOT
from harness.programs import node
from harness.proxies import Proxy, proxy

pytestmark = pytest.mark.servers
EXCHANGE = ROOT / "edge/clients/javascript/test/exchange.node.js"
IDLE = (r"\b60s\b", "700ms")  # the idle time-out of the proxy


@pytest.fixture(scope="module")
def bus() -> Iterator[dict[str, str]]:
    with nats_server() as nats:
        env = {"CLOUDMATCH_NATS_URL": nats.url}
        with service("match-engine", env):
            yield env


@contextlib.contextmanager
def two_edges(bus: dict[str, str], heartbeat: float) -> Iterator[list[Service]]:
    env = {
        **bus,
        "CLOUDMATCH_EDGE_HEARTBEAT": str(heartbeat),
        "CLOUDMATCH_EDGE_PATH_PREFIX": "/cm",
        "CLOUDMATCH_EDGE_TRUSTED_PROXIES": "127.0.0.1",
        "CLOUDMATCH_EDGE_CONNECTIONS_PER_ADDRESS": "1",
    }
    with contextlib.ExitStack() as stack:
        names = (f"edge-{heartbeat}-{number}" for number in range(2))
        yield [stack.enter_context(service("edge", {**env, "CLOUDMATCH_EDGE_NAME": name})) for name in names]


@pytest.fixture(scope="module")
def lively(bus: dict[str, str]) -> Iterator[list[Service]]:
    """Two edges whose heartbeat is shorter than any idle time-out here."""
    with two_edges(bus, 0.2) as edges:
        yield edges


@pytest.fixture(scope="module")
def quiet(bus: dict[str, str]) -> Iterator[list[Service]]:
    """Two edges whose heartbeat is longer than the idle time-out."""
    with two_edges(bus, 300) as edges:
        yield edges


@pytest.fixture(params=["nginx", "haproxy"])
def through(request: pytest.FixtureRequest, lively: list[Service]) -> Iterator[Proxy]:
    with proxy(request.param, lively) as made:
        yield made


@contextlib.asynccontextmanager
async def pair(url: str, app: str) -> AsyncIterator[list[cloudmatch.Device]]:
    """Two matched devices of the Python client."""
    devices = [cloudmatch.connect(f"{url}/cm", id=name, lat=1, lon=1, app=app, timeout=20) for name in "ab"]
    async with devices[0], devices[1]:
        await asyncio.gather(*(device.matched() for device in devices))
        yield devices


async def exchanged(devices: list[cloudmatch.Device], text: str) -> None:
    for sender, receiver in (devices, reversed(devices)):
        _, received = await asyncio.gather(sender.send(text, receipt=True), receiver.receive())
        assert received == text


@contextlib.asynccontextmanager
async def classic_pair(url: str, app: str) -> AsyncIterator[list[ClientConnection]]:
    """Two matched classic devices."""
    at = url.replace("http", "ws") + f"/cm/device/connect?app={app}&lat=1&lon=1&id="
    async with connect(f"{at}c", close_timeout=0.1) as c, connect(f"{at}d", close_timeout=0.1) as d:
        for socket, peer in ((c, "d"), (d, "c")):
            assert (await receive_text(socket)).startswith("Connected and handled by edge-")
            assert await receive_text(socket) == f"I matched with device '{peer}'!"
        yield [c, d]


async def in_node(url: str, count: int, rate: float) -> list[dict[str, int]]:
    """Exchange payloads between two devices of the JavaScript client."""
    options = {"urls": [f"{url}/cm"] * 2, "count": count, "rate": rate}
    process = await asyncio.create_subprocess_exec(
        *node(), EXCHANGE, json.dumps(options), stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    for each in found["done"]:
        assert (each["received"], each["wrong"], each["peerLeft"], each["gap"]) == (count, 0, 0, 0)
    return found["done"]


async def test_devices_stay_matched_where_the_idle_time_out_is_longer_than_the_heartbeat(
    through: Proxy,
) -> None:
    through.start(IDLE)
    async with (
        pair(through.url, through.name) as devices,
        classic_pair(through.url, f"{through.name}-classic") as (c, d),
        watched(devices) as resumes,
    ):
        for done in await in_node(through.url, 3, 0.8):
            assert done["resumed"] == 0
        await exchanged(devices, "still there")
        assert resumes == []
        await c.send("still there")
        assert await receive_text(d) == "device c says: still there"


@contextlib.asynccontextmanager
async def watched(devices: list[cloudmatch.Device]) -> AsyncIterator[list[cloudmatch.Resumed]]:
    """A list to which every resume of these devices is added."""
    seen: list[cloudmatch.Resumed] = []

    async def follow(device: cloudmatch.Device) -> None:
        async for event in device.events():
            seen.extend([event] if isinstance(event, cloudmatch.Resumed) else [])

    tasks = [asyncio.create_task(follow(device)) for device in devices]
    yield seen
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_matches_go_on_where_it_is_shorter(quiet: list[Service], name: str) -> None:
    with proxy(name, quiet) as through:
        through.start(IDLE)
        async with pair(through.url, name) as devices, watched(devices) as resumes:
            for done in await in_node(through.url, 3, 0.8):
                assert done["resumed"] > 0
            assert resumes
            suspected = [edge.metric("cloudmatch_edge_suspected_idle_timeout_seconds") for edge in quiet]
            assert any(0.5 < each < 1 for each in suspected), suspected
            await exchanged(devices, "still there")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nginx", ("", "")),
        ("haproxy", ("", "")),
        ("haproxy", (r"(server +edge-.*)", r"\1 send-proxy")),
        ("haproxy", (r"(server +edge-.*)", r"\1 send-proxy-v2")),
    ],
)
async def test_devices_behind_it_are_counted_by_their_addresses(
    lively: list[Service], name: str, change: tuple[str, str]
) -> None:
    """As if there were another proxy in front of this one; each of the two edges counts for itself."""
    with proxy(name, lively) as through:
        through.start(change)
        async with contextlib.AsyncExitStack() as stack:

            async def connects(address: str, number: int) -> bool:
                at = f"{through.url.replace('http', 'ws')}/cm/device/connect?lat=1&lon=1&app={name}-counted"
                headers = {"X-Forwarded-For": f"203.0.113.99, {address}"}
                opening = connect(
                    f"{at}&id={address}-{number}", additional_headers=headers, close_timeout=0.1
                )
                try:
                    await stack.enter_async_context(opening)
                except InvalidStatus as refused:
                    assert refused.response.status_code == 429  # noqa: PT017 # the others were accepted
                    return False
                return True

            assert 1 <= sum([await connects("203.0.113.1", number) for number in range(5)]) <= 2
            assert await connects("203.0.113.2", 0)


@pytest.mark.parametrize("status", [400, 404, 502])
async def test_errors_of_the_proxy_itself_end_nothing(lively: list[Service], status: int) -> None:
    with proxy("nginx", lively) as through:
        through.start()
        async with pair(through.url, f"broken-{status}") as devices:
            exchange = asyncio.create_task(in_node(through.url, 3, 0.8))
            await asyncio.sleep(1)
            through.restart((r"proxy_pass .*;", f"return {status};"))
            await asyncio.sleep(1)
            through.restart()
            await exchanged(devices, "back again")
            await exchange


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nginx", (r"proxy_set_header +(Upgrade|Connection) .*;", "")),
        ("nginx", ("proxy_http_version 1.1;", "")),
        ("haproxy", ("( +bind .*)", r"\1\n    http-request del-header upgrade")),
    ],
)
async def test_a_proxy_that_passes_no_websockets_on_is_named(
    lively: list[Service], name: str, change: tuple[str, str]
) -> None:
    with proxy(name, lively) as through:
        through.start(change)
        with pytest.raises(InvalidStatus) as refused:
            await connect(through.url.replace("http", "ws") + "/cm/device/connect?id=a&lat=1&lon=1")
        answer = refused.value.response
        assert answer.status_code == 426
        cause = "a proxy on the way must pass on"
        assert cause in json.loads(answer.body)["error"]["detail"]
        device = cloudmatch.connect(f"{through.url}/cm", id="a", lat=1, lon=1, timeout=1)
        with pytest.raises(cloudmatch.UnreachableError, match=cause):
            await device.__aenter__()


def test_the_page_works_under_a_path_that_the_proxy_does_not_remove(lively: list[Service]) -> None:
    with proxy("haproxy", lively) as through, chromium() as browser:
        through.start()
        url = f"{through.url}/cm#a@1,1&b@1,2&c@1,9;dialect=classic"
        with contextlib.closing(Visitor(browser, url)) as visitor:
            matched(visitor, "a", "b")
            visitor.card("a").send("ciao")
            visitor.card("b").logs("ciao")
            visitor.card("c").click("Connect")
            visitor.card("c").shows_state("waiting")
            visitor.page.locator("#health li", has_text="ready").first.wait_for()


def test_the_page_and_the_doctor_name_an_idle_time_out(quiet: list[Service]) -> None:
    with proxy("nginx", quiet) as through, chromium() as browser:
        through.start(IDLE)
        with contextlib.closing(Visitor(browser, f"{through.url}/cm/#a@1,1&b@1,2")) as visitor:
            matched(visitor, "a", "b")
            visitor.page.locator("#troubles", has_text="the idle time-out of a proxy").wait_for()
        found = doctor.idle_timeout(quiet[0].url) + doctor.idle_timeout(quiet[1].url)
        assert found
        assert "CLOUDMATCH_EDGE_HEARTBEAT" in found[0].advice
