"""An edge with CLOUDMATCH_EDGE_MAX_CONNECTIONS: who is refused at that number, and who is told."""

import asyncio
import contextlib
import json
import random
import re
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

import cloudmatch
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import Heartbeat, decode_heartbeat
from harness import NatsServer, Service, eventually
from harness.bus import connected
from harness.classic import device, receive_text
from harness.page import Visitor, chromium
from harness.processes import BIN, environment

Start = Callable[..., Service]
V1 = Subprotocol("cloudmatch.v1")
CAP = 2
FULL = {"ready": False, "reasons": {"devices": "full: 2 of 2 devices"}}


@pytest.fixture
def edge(nats_server: NatsServer, start: Start) -> Service:
    """An edge that accepts two devices, and a worker."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return start("edge", {**bus, "CLOUDMATCH_EDGE_MAX_CONNECTIONS": str(CAP)})


@contextlib.asynccontextmanager
async def pair(edge: Service) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    """Fill the edge with two matched devices."""
    async with device(edge, "a", 1, 1) as a, device(edge, "c", 1, 2) as c:
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"
        yield a, c


def address(edge: Service, name: str) -> str:
    return edge.url.replace("http", "ws") + f"/device/connect?id={name}&lat=1&lon=1"


@pytest.mark.parametrize("dialect", [None, "cloudmatch.v1"])
async def test_a_further_device_is_refused_with_503_while_the_others_go_on(
    edge: Service, dialect: str | None
) -> None:
    async with pair(edge) as (a, c):
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await connect(address(edge, "b"), subprotocols=dialect and [dialect])
            answer = refused.value.response
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            error = json.loads(answer.body)["error"]
            assert error == {
                "code": "edge_full",
                "detail": "full: 2 of 2 devices; try again later, or another edge",
            }
            await a.send("still there?")
            assert await receive_text(c) == "device a says: still there?"
        assert edge.metric("cloudmatch_edge_devices_refused_total") == 3


async def test_a_full_edge_is_not_ready_but_alive_until_a_device_leaves(edge: Service) -> None:
    async with device(edge, "a", 1, 1):
        assert edge.get("/system/readiness")[0] == 200
        assert edge.metric("cloudmatch_edge_max_devices") == CAP
        assert edge.metric("cloudmatch_edge_fullness_ratio") == 0.5
        async with device(edge, "c", 1, 2):
            status, text = edge.get("/system/readiness")
            assert (status, json.loads(text)) == (503, FULL)
            assert edge.get("/system/liveness") == (200, "alive")
            assert edge.metric("cloudmatch_edge_fullness_ratio") == 1
        await eventually(lambda: edge.get("/system/readiness")[0] == 200, what="ready again")
        async with device(edge, "b", 1, 2):
            assert edge.metric("cloudmatch_edge_devices") == CAP


async def test_a_newer_connection_of_a_device_of_the_full_edge_replaces_the_older(edge: Service) -> None:
    async with pair(edge) as (a, c), device(edge, "a", 1, 1) as newer:
        await asyncio.wait_for(a.wait_closed(), 10)
        assert a.close_code == 4001
        assert await receive_text(c) == "I matched with device 'a'!"
        assert await receive_text(newer) == "I matched with device 'c'!"
        assert edge.metric("cloudmatch_edge_devices") == CAP
        with pytest.raises(InvalidStatus, match="503"):
            await connect(address(edge, "b"))


async def test_a_disconnected_device_gives_its_place_to_another_until_it_can_return(edge: Service) -> None:
    v1 = ["cloudmatch.v1"]
    async with device(edge, "c", 1, 2):
        away = await connect(address(edge, "away"), subprotocols=v1)
        token = json.loads(await away.recv())["resume"]
        away.transport.abort()
        await eventually(lambda: edge.metric("cloudmatch_edge_away") == 1, what="a device in its grace")
        returning = f"{address(edge, 'away')}&resume={token}"
        async with device(edge, "b", 1, 50):
            with pytest.raises(InvalidStatus, match="503"):
                await connect(returning, subprotocols=v1)
        await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 1, what="a free place")
        async with connect(returning, subprotocols=v1) as back:
            assert json.loads(await back.recv())["type"] == "welcome"
            assert edge.metric("cloudmatch_edge_devices") == CAP
            assert edge.metric("cloudmatch_edge_away") == 0


async def test_a_flood_of_attempts_never_exceeds_the_number(edge: Service) -> None:
    async with contextlib.AsyncExitStack() as stack:

        async def attempt(number: int) -> bool:
            try:
                socket = await connect(address(edge, f"flood-{number}"), open_timeout=30)
            except InvalidStatus as refused:
                assert refused.response.status_code == 503  # noqa: PT017 # the others were accepted
                return False
            stack.push_async_callback(socket.close)
            return True

        accepted = await asyncio.gather(*map(attempt, range(200)))
        assert sum(accepted) == CAP
        assert edge.metric("cloudmatch_edge_devices") == CAP
        assert edge.metric("cloudmatch_edge_devices_refused_total") == 200 - CAP
    await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 0, what="an empty edge")


async def test_devices_that_come_go_and_replace_each_other_are_counted_right(edge: Service) -> None:
    dice = random.Random(2019)  # noqa: S311 # no secret

    async def visits() -> None:
        for visit in range(25):
            v1 = [V1] if dice.random() < 0.5 else None
            try:
                socket = await connect(address(edge, dice.choice("abc") + str(visit // 2)), subprotocols=v1)
            except InvalidStatus:
                continue
            await asyncio.sleep(dice.random() / 100)
            if v1 and dice.random() < 0.5:
                with contextlib.suppress(ConnectionClosed):  # replaced
                    await socket.send('{"type":"leave"}')
            if dice.random() < 0.3:
                socket.transport.abort()
            await socket.close()

    await asyncio.gather(*(visits() for _ in range(6)))
    await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 0, what="an empty edge")
    # out of reach of all others: match-engine may not have heard of every departure yet
    async with device(edge, "d", 50, 50), device(edge, "e", -50, -50):
        assert edge.metric("cloudmatch_edge_fullness_ratio") == 1


async def test_a_client_of_two_edges_uses_the_one_that_is_not_full(
    nats_server: NatsServer, edge: Service, start: Start
) -> None:
    other = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_NAME": "edge-1"})
    urls = [edge.url, other.url]
    async with pair(edge), cloudmatch.connect(urls, id="b", lat=1, lon=2, timeout=4) as b:  # < Retry-After
        assert other.metric("cloudmatch_edge_devices") == 1
        assert edge.metric("cloudmatch_edge_devices") == CAP
        async with device(other, "d", 1, 2):
            assert (await b.matched()).id == "d"


async def test_a_client_of_a_full_edge_says_why_and_is_accepted_when_a_device_leaves(edge: Service) -> None:
    detail = "full: 2 of 2 devices; try again later, or another edge"
    waiting = cloudmatch.connect(edge.url, id="b", lat=1, lon=2, timeout=30)
    events = waiting.events()

    async def make_room(leaving: ClientConnection) -> None:
        assert await asyncio.wait_for(anext(events), 10) == cloudmatch.ServerError("edge_full", detail)
        impatient = cloudmatch.connect(edge.url, id="d", lat=1, lon=2, timeout=0.5)
        with pytest.raises(cloudmatch.UnreachableError, match=detail) as failed:
            await impatient.__aenter__()
        assert isinstance(failed.value.__cause__, cloudmatch.RefusedError)
        assert failed.value.__cause__.status == 503
        await leaving.close()

    async with pair(edge) as (a, _), asyncio.TaskGroup() as tasks:
        tasks.create_task(make_room(a))
        async with waiting as b:
            assert (await b.matched()).id == "c"


def test_the_command_copes_with_a_full_edge(edge: Service) -> None:
    """A swarm goes on with the devices that were accepted, and the doctor warns."""
    swarm = run("swarm", "--url", edge.url, "--devices", "4", "--seconds", "3")
    assert swarm.returncode == 0, swarm.stdout + swarm.stderr
    figures = dict(re.findall(r"│ (\w[^│]*?) +│ +([\d,]+) │", swarm.stdout))
    assert int(figures["refused: no room"]) >= 2
    assert figures["connected"] == "2"
    assert figures["lost"] == "0"


async def test_the_doctor_warns_of_a_full_edge(edge: Service) -> None:
    async with pair(edge):
        found = await asyncio.to_thread(run, "doctor", "--url", edge.url)
    assert re.search(r"! │ edge +│ full: 2 of 2 devices at", found.stdout), found.stdout
    assert re.search(r"! │ two devices +│ no connection to .*: full: 2 of 2 devices", found.stdout)
    assert "CLOUDMATCH_EDGE_MAX_CONNECTIONS" in found.stdout


def test_the_page_shows_why_a_device_is_not_accepted_until_there_is_room(edge: Service) -> None:
    with (
        chromium() as browser,
        contextlib.closing(
            Visitor(browser, f"{edge.url}/#a@1,1&b@1,2&c@1,3&d@1,3;dialect=classic")
        ) as visitor,
    ):
        a, b, c, d = (visitor.card(name) for name in "abcd")
        a.click("Connect")
        b.click("Connect")
        a.shows_state("matched with b")
        full = "full: 2 of 2 devices; try again later, or another edge"
        c.click("Connect")
        c.node.locator(".problem", has_text=f"edge_full: {full}").wait_for()
        c.logs(f"edge_full: {full}")
        d.click("Connect")
        d.node.locator(".problem", has_text=full).wait_for()
        a.click("Leave")
        c.shows_state("matched with b")
        assert c.node.locator(".problem").is_hidden()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "cloudmatch", *words]
    env = environment({"COLUMNS": "200"})
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


async def test_heartbeats_say_how_many_devices_there_are_and_that_the_edge_drains(
    nats_server: NatsServer, edge: Service
) -> None:
    beats: list[Heartbeat] = []
    async with connected(nats_server.url) as bus, device(edge, "a", 1, 1):
        await bus.subscribe(
            subjects.every_heartbeat("edge"), lambda _, __, data, ___: beats.append(decode_heartbeat(data))
        )
        await eventually(lambda: beats and beats[-1].devices == 1, what="one device in a heartbeat")
        assert beats[-1].max_devices == CAP
        assert not beats[-1].draining
        edge.terminate()
        await eventually(lambda: beats[-1].leaving, what="its last heartbeat")
        assert any(beat.draining and not beat.leaving for beat in beats)
        assert beats[-1].draining
        assert beats[-1].devices == 0
