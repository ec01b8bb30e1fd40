"""Devices whose tokens expire while they are connected to a real edge."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

import cloudmatch
from harness import Service, eventually, programs
from harness.tokens import Signer, asking_edge, jwk_set
from integration.test_sdk_javascript import run_tests

pytestmark = pytest.mark.servers
OURS, STRANGER = Signer("ES256"), Signer("ES256")
LIFE, LONGER = 3.0, 50.0  # s


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    keys = tmp_path_factory.mktemp("keys") / "jwks.json"
    keys.write_bytes(jwk_set(OURS.published()))
    with asking_edge(keys, AUTH_LEEWAY="0") as (made, _):
        yield made


def expiring(name: str, life: float = LIFE, **claims: Any) -> str:
    now = time.time()
    return OURS.token(
        name, iat=now - 1, exp=now + life, **claims
    )  # `iat` may not be later than the edge's ms


def opening(edge: Service, token: str, *, v1: bool = True, query: str = "") -> connect:
    return connect(
        f"{edge.url.replace('http', 'ws')}/device/connect?lat=1&lon=1{query}",
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[Subprotocol("cloudmatch.v1")] if v1 else None,
        close_timeout=1,
    )


async def hear(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next message of a kind."""
    async with asyncio.timeout(20):
        while (message := json.loads(await socket.recv()))["type"] != kind:
            pass
    return dict(message)


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Wait for the end of a connection; return its code and reason."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionClosedError):
            async for _ in socket:
                pass
    assert socket.close_code is not None
    assert socket.close_reason is not None
    return socket.close_code, socket.close_reason


async def test_a_classic_device_is_closed_when_its_token_expires(edge: Service) -> None:
    began = time.time()
    async with opening(edge, OURS.token("old", exp=began + LIFE), v1=False) as socket:
        assert await closed(socket) == (4003, "token expired")
    assert time.time() >= began + LIFE
    assert edge.metric('cloudmatch_edge_connections_total{code="4003"}') >= 1


async def test_whoever_brings_another_token_stays_and_who_does_not_returns_with_one(edge: Service) -> None:
    claims = {"app": "expiry"}
    async with (
        opening(edge, expiring("stays", LONGER, **claims)) as stays,
        opening(edge, expiring("goes", **claims)) as goes,
    ):
        welcome = await hear(goes, "welcome")
        await asyncio.gather(hear(stays, "matched"), hear(goes, "matched"))
        assert 0 <= (await hear(stays, "token_expires"))["in"] <= LONGER
        for wrong, code in (
            (STRANGER.token("stays", **claims), "unauthorized"),
            (OURS.token("stays", exp=1.0, **claims), "unauthorized"),
            ("no token", "unauthorized"),
            (OURS.token("goes", **claims), "forbidden"),
            (OURS.token("stays"), "forbidden"),  # of another app
        ):
            await stays.send(json.dumps({"type": "token", "token": wrong}))
            error = await hear(stays, "error")
            assert error["code"] == code
            assert wrong not in json.dumps(error)
        another = expiring("stays", 600, **claims)
        await stays.send(json.dumps({"type": "token", "token": another}))
        assert abs((await hear(stays, "token"))["expires"] / 1000 - time.time() - 600) < 30
        assert await closed(goes) == (4003, "token expired")
        assert (await hear(stays, "peer_away"))["peer"] == "goes"

        resume = f"&resume={welcome['resume']}&received=0"
        with pytest.raises(InvalidStatus) as refused:
            await opening(edge, OURS.token("goes", exp=1.0, **claims), query=resume)
        assert refused.value.response.status_code == 401
        async with opening(edge, expiring("goes", 600, **claims), query=resume) as back:
            assert (await hear(back, "resumed"))["peer"] == "stays"
            await stays.send(json.dumps({"type": "message", "text": "still here"}))
            assert (await hear(back, "message"))["text"] == "still here"


async def test_the_python_sdk_renews_its_token_as_often_as_it_expires(edge: Service) -> None:
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        return expiring("sdk", app="sdk")

    device = cloudmatch.connect(edge.url, id="sdk", lat=1, lon=1, app="sdk", token=token)
    lost: list[cloudmatch.Event] = []
    async with device:
        device.on(cloudmatch.Disconnected, lost.append)
        await eventually(lambda: asked >= 5, 20)
    assert lost == []


def test_the_javascript_sdk_renews_its_token(edge: Service) -> None:
    tokens = [expiring("js", LONGER, app="js"), expiring("js", 600, app="js")]
    run_tests(programs.node(), "tokens.test.js", EDGE=edge.url, TOKENS=json.dumps(tokens))
