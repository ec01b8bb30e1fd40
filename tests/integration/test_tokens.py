"""Who comes in at a real edge that asks for tokens, and what nobody else ever sees of one."""

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nats
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from harness import Service, eventually
from harness.processes import BIN, Process
from harness.tokens import Signer, asking_edge, jwk_set

pytestmark = pytest.mark.servers
OURS, STRANGER = Signer("ES256"), Signer("ES256")
V1 = "cloudmatch.v1"


class Stack(NamedTuple):
    edge: Service
    bus: str
    keys: Path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    keys = tmp_path_factory.mktemp("keys") / "jwks.json"
    keys.write_bytes(jwk_set(OURS.published()))
    with asking_edge(keys, CONNECTS_PER_DEVICE="0") as (edge, server):
        yield Stack(edge, server.url, keys)


def opening(stack: Stack, token: str, *, by: str, query: str = "lat=1&lon=1", **headers: str) -> connect:
    """Open a connection whose token comes by header, "classic" or "v1", or as a "subprotocol"."""
    offered = {"classic": None, "v1": [V1], "subprotocol": [V1, f"bearer.{token}"]}[by]
    if by != "subprotocol":
        headers = {"Authorization": f"Bearer {token}", **headers}
    return connect(
        f"{stack.edge.url.replace('http', 'ws')}/device/connect?{query}",
        additional_headers=headers,
        subprotocols=[Subprotocol(each) for each in offered] if offered else None,
        close_timeout=1,
    )


async def refusal(attempt: connect) -> tuple[int, dict[str, str], str]:
    """Return status and error of an attempt that is refused, and all that was answered."""
    with pytest.raises(InvalidStatus) as refused:
        await attempt
    answer = refused.value.response
    error = json.loads(answer.body)["error"]
    assert error.pop("detail")
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    return answer.status_code, error, f"{answer.headers}{answer.body!r}"


async def paired(one: ClientConnection, other: ClientConnection) -> tuple[str, str]:
    """Return what two devices hear until they are matched."""

    async def until_matched(device: ClientConnection) -> str:
        heard = ""
        async for message in device:
            heard += str(message)
            if "matched" in heard:
                break
        return heard

    async with asyncio.timeout(10):
        return await until_matched(one), await until_matched(other)


@pytest.mark.parametrize(("one", "other"), [("classic", "v1"), ("v1", "subprotocol")])
async def test_devices_with_tokens_are_matched_as_whom_their_tokens_name(
    stack: Stack, one: str, other: str
) -> None:
    app = f"{one}-{other}"
    async with (
        opening(stack, OURS.token("ann", app=app), by=one) as ann,
        opening(stack, OURS.token("ben", app=app), by=other, query=f"id=ben&app={app}&lat=1&lon=1") as ben,
    ):
        by_ann, by_ben = await paired(ann, ben)
        assert "ben" in by_ann
        assert "ann" in by_ben
        assert (ann.subprotocol, ben.subprotocol) == (None if one == "classic" else V1, V1)


@pytest.mark.parametrize("by", ["classic", "v1", "subprotocol"])
async def test_others_stay_outside_and_hear_why_but_never_their_token(stack: Stack, by: str) -> None:
    good, query = OURS.token("ann"), "id=ann&lat=1&lon=1"
    cases: list[tuple[str, str, int, dict[str, str]]] = [
        (STRANGER.token("ann"), query, 401, {"code": "unauthorized", "reason": "signature"}),
        (OURS.token("ann", exp=1.0), query, 401, {"code": "unauthorized", "reason": "expired"}),
        (OURS.token("ann", aud="else"), query, 401, {"code": "unauthorized", "reason": "audience"}),
        ("e30.e30.e30", query, 401, {"code": "unauthorized", "reason": "malformed"}),
        ("x" * 5120, query, 401, {"code": "unauthorized", "reason": "malformed"}),
        (good, "id=ben&lat=1&lon=1", 403, {"code": "forbidden", "parameter": "id"}),
        (good, f"{query}&app=other", 403, {"code": "forbidden", "parameter": "app"}),
        (good, f"{query}&token={good}", 400, {"code": "token_in_url"}),
        (good, f"{query}&access_token={good}", 400, {"code": "token_in_url"}),
        (
            OURS.token("ann", cm={"radius": 10}),
            f"{query}&radius=11",
            403,
            {"code": "forbidden", "parameter": "radius"},
        ),
        (OURS.token("ann", cm={"tags": ["a"]}), query, 403, {"code": "forbidden", "parameter": "tag"}),
        (
            OURS.token("ann", cm={"place": [9, 9, 9]}),
            query,
            403,
            {"code": "forbidden", "parameter": "place"},
        ),
    ]
    for token, asked, status, error in cases:
        found = await refusal(opening(stack, token, by=by, query=asked))
        assert found[:2] == (status, error)
        assert token not in found[2]
        assert token.split(".")[-1] not in found[2]


async def test_no_token_and_two_of_them_are_refused(stack: Stack) -> None:
    bare = connect(f"{stack.edge.url.replace('http', 'ws')}/device/connect?id=a&lat=1&lon=1")
    assert (await refusal(bare))[:2] == (401, {"code": "unauthorized", "reason": "missing"})
    good = OURS.token("ann")
    twice = opening(stack, good, by="subprotocol", Authorization=f"Bearer {good}")
    assert (await refusal(twice))[:2] == (401, {"code": "unauthorized", "reason": "ambiguous"})
    only = connect(
        f"{stack.edge.url.replace('http', 'ws')}/device/connect?lat=1&lon=1",
        subprotocols=[Subprotocol(f"bearer.{good}")],
    )
    status, error, answer = await refusal(only)
    assert (status, error) == (400, {"code": "unknown_subprotocol"})
    assert good not in answer


async def malformed(stack: Stack, head: str) -> str:
    """Send what is no handshake; return what is answered."""
    host, _, port = stack.edge.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_an_error_that_quotes_a_request_leaves_its_token_out(stack: Stack) -> None:
    good = OURS.token("ann")
    start = "GET /device/connect?lat=1&lon=1 HTTP/1.1\r\nHost: a\r\n"
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    quoted = f"{upgrade}Sec-WebSocket-Key: {'A' * 22}==\r\nAuthorization: Bearer {good}\r\n"
    for rest in (
        f"Authorization: Bearer {good}\x01\r\n\r\n",
        f"Authorization Bearer {good}\r\n\r\n",
        f"Sec-WebSocket-Protocol: {V1}, bearer.{good}\r\n\r\n",
        f"{upgrade}Sec-WebSocket-Key: x\r\nSec-WebSocket-Protocol: {V1}, bearer.{good}\r\n\r\n",
        f'{quoted}Sec-WebSocket-Protocol: {V1}, "bearer.{good}"\r\n\r\n',
    ):
        answer = await malformed(stack, start + rest)
        assert answer.startswith("HTTP/1.1 4")
        assert good[:24] not in answer


async def test_keys_rotate_while_devices_stay(stack: Stack) -> None:
    new = Signer("ES256", "k2")
    async with opening(stack, OURS.token("old", app="rotate"), by="v1") as old:
        status, error, _ = await refusal(opening(stack, new.token("new", app="rotate"), by="v1"))
        assert (status, error["reason"]) == (401, "unknown_key")
        stack.keys.write_bytes(jwk_set(OURS.published(), new.published()))
        await eventually(lambda: stack.edge.metric("cloudmatch_edge_token_keys") == 2)
        async with opening(stack, new.token("new", app="rotate"), by="v1") as arrived:
            await paired(old, arrived)
            stack.keys.write_bytes(b"no keys at all")
            await eventually(lambda: "no JWK set" in stack.edge.get("/system/readiness")[1])
            assert stack.edge.get("/system/readiness")[0] == 200
            await old.send(json.dumps({"type": "message", "text": "ciao"}))
            async with asyncio.timeout(5):
                async for message in arrived:
                    if "ciao" in str(message):
                        break
            await arrived.send(json.dumps({"type": "ack", "received": 1}))


async def test_a_token_is_in_no_log_and_no_metric_nor_on_the_bus_and_what_that_keeps(stack: Stack) -> None:
    client = await nats.connect(stack.bus)
    said: list[bytes] = []

    async def hear(message: Any) -> None:
        said.append(message.subject.encode() + repr(message.headers).encode() + message.data)

    await client.subscribe(">", cb=hear)
    await client.flush()
    mark = secrets.token_hex(8)  # in every part of the tokens that could be seen
    tokens = [OURS.token(name, jti=mark, app="seen", header={"kid": "k1", "x": mark}) for name in ("c", "d")]
    async with (
        opening(stack, tokens[0], by="classic") as one,
        opening(stack, tokens[1], by="subprotocol") as two,
    ):
        await paired(one, two)
        await refusal(opening(stack, STRANGER.token("c", jti=mark), by="v1"))
    for kept in (b"$KV.match.dev.seen.", b"cm.v1.seen.", b"$JS.API"):  # whatever is kept was said before
        await eventually(lambda: any(each.startswith(kept) for each in said))  # noqa: B023  # at once
    await client.close()
    seen = b"".join(said) + (stack.edge.logs() + stack.edge.get("/metrics")[1]).encode()
    for token in tokens:
        parts = token.split(".")
        secret = [*parts, base64.urlsafe_b64encode(mark.encode()).rstrip(b"=").decode(), mark]
        assert not [each for each in secret if each.encode() in seen]
    assert stack.edge.metric("cloudmatch_edge_devices_denied_total") > 0


def test_beyond_loopback_an_edge_ends_with_a_sentence(tmp_path: Path) -> None:
    process = Process("edge", [BIN / "edge"], {"CLOUDMATCH_EDGE_HOST": "0.0.0.0"}, tmp_path)  # noqa: S104  # refused
    assert process.wait(10) == 2
    assert "CLOUDMATCH_EDGE_AUTH must be set, as CLOUDMATCH_EDGE_HOST=0.0.0.0" in process.tail()
