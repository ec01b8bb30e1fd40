"""Connections of the HTTP APIs: a request must arrive in time, on a new connection and after an answer."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Request, post

from cloudmatch_bus.process import http, http_protocol
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen

REQUEST = b"GET /system/liveness HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"


@post("/slow")
async def slow(request: Request[Any, Any, Any]) -> str:
    """Read the body; answer after more than the time for a request."""
    await request.body()
    await asyncio.sleep(2 * http_protocol.REQUEST_TIMEOUT)
    return "done"


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http_protocol, "REQUEST_TIMEOUT", 0.3)
    sock = listen("127.0.0.1", 0, "")
    stop = asyncio.Event()
    app = http.application("test", Health(), [slow])
    serving = asyncio.create_task(http.serve(app, "test", [sock], stop))
    yield sock.getsockname()[1]
    stop.set()
    await serving
    sock.close()


async def test_a_connection_without_a_whole_request_is_closed(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def rest_of(before: bytes, sent: bytes) -> bytes:
        """Return what comes after the answer to the first request, until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(before)
        if before:
            assert (await reader.readuntil(b"alive")).startswith(b"HTTP/1.1 200")
        writer.write(sent)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    cases = itertools.product((b"", REQUEST), (b"", REQUEST[:20], HALF))
    assert await asyncio.gather(*(rest_of(*case) for case in cases)) == [b""] * 6
    assert caplog.text == ""


async def test_an_answer_may_take_longer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HALF + b"}")
    assert b"done" in await asyncio.wait_for(reader.readuntil(b"done"), 10)
    writer.close()
