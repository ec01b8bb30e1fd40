"""What the Python client does when something between it and the server answers, and when it is replaced."""

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

import cloudmatch
from unit.client_python.test_device import MATCHED, WAITING, WELCOME, Server, device, send, server


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"<html>") for status in (400, 401, 404, 503)),
        *((403, body) for body in (b"", b"{}", b"[]", b'{"error":"no"}', b"\xff")),
        (403, b'{"error":{"code":403,"detail":"x"}}'),
    ],
)
async def test_an_answer_that_is_not_the_servers_own_is_told_and_tried_again(
    status: int, body: bytes
) -> None:
    calls = 0

    def proxy(socket: ServerConnection, request: Request) -> Response | None:
        nonlocal calls
        calls += 1
        return Response(status, "", Headers(), body) if calls == 1 else None

    async with server(process_request=proxy) as it:
        a = device(it.url)
        events = a.events()
        async with a:
            told = await anext(events)
            assert isinstance(told, cloudmatch.ServerError)
            assert (told.code, f"HTTP {status}" in told.detail) == ("refused", True)
            await a.matched()


@pytest.mark.parametrize("location", ["https://login.example/", "ftp://x", "http://[", "/"])
async def test_a_redirect_that_leads_nowhere_is_told_and_tried_again(location: str) -> None:
    calls = 0

    def proxy(socket: ServerConnection, request: Request) -> Response | None:
        nonlocal calls
        calls += 1
        return Response(302, "", Headers({"Location": location}), b"") if calls < 15 else None

    async with server(process_request=proxy) as it:
        a = device(it.url)
        events = a.events()
        a._connector.start()
        told = await anext(events)
        assert isinstance(told, cloudmatch.ServerError)
        assert told.code == "unreachable"
        assert a._connector.error is None
        await a._stop()


@pytest.mark.parametrize("proxy", ["http://[", "nonsense://x:1", "http://u@h:1", "socks5://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.setenv(name, proxy)
    a = device("http://server.example", timeout=0.3)
    events = a.events()
    with pytest.raises(cloudmatch.UnreachableError, match="no connection to"):
        await a.__aenter__()
    told = await anext(events)
    assert isinstance(told, cloudmatch.ServerError)
    assert (told.code, bool(told.detail)) == ("unreachable", True)


async def test_a_device_that_an_abandoned_attempt_of_its_own_has_replaced_tries_once_more() -> None:
    async def script(it: Server, socket: ServerConnection) -> None:
        if len(it.queries) == 1:
            socket.transport.abort()  # before the welcome
            return
        await send(socket, WELCOME, WAITING, MATCHED)
        await socket.recv()
        await socket.close(4001)

    async with server(script) as it, device(it.url) as a:
        with pytest.raises(cloudmatch.ReplacedError):
            await a.receive()
    assert len(it.queries) == 3
