"""Connections of the HTTP APIs: a request must arrive in time, on a new connection and after an answer."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Request, get, post
from litestar.response import Stream

from cloudmatch_bus.process import http, http_protocol
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from harness import eventually

REQUEST = b"GET /system/liveness HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"


@post("/slow")
async def slow(request: Request[Any, Any, Any]) -> str:
    """Read the body; answer after more than the time for a request."""
    await request.body()
    await asyncio.sleep(2 * http_protocol.REQUEST_TIMEOUT)
    return "done"


@get("/long")
async def long() -> Stream:
    """Answer with more than what the sockets hold."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(100_000)

    return Stream(pieces())


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http_protocol, "REQUEST_TIMEOUT", 0.3)
    sock = listen("127.0.0.1", 0, "")
    stop = asyncio.Event()
    monkeypatch.setattr(http_protocol, "UNREAD_TIMEOUT", 0.3)
    app = http.application("test", Health(), [slow, long])
    serving = asyncio.create_task(http.serve(app, "test", [sock], stop, connections=8))
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


async def received(port: int, pause: float) -> int:
    """Ask for much; return how much arrives when nothing is read for some seconds at first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(pause)
    length = 0
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(reader.read(1_000_000), 10):
            length += len(data)
    writer.close()
    return length


async def test_whoever_does_not_read_an_answer_is_closed_and_whoever_reads_gets_it_whole(port: int) -> None:
    assert await received(port, 0) > 20_000_000
    assert await received(port, 1) < 20_000_000


async def test_of_too_many_connections_the_last_ones_are_refused_but_for_probes(port: int) -> None:
    async def ask(path: bytes) -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            return await asyncio.wait_for(reader.read(1000), 10), writer
        return b"", writer

    answers = [await ask(b"/nothing") for _ in range(8)]
    assert all(answer.startswith(b"HTTP/1.1 404") for answer, _ in answers)
    refused, last = await ask(b"/nothing")
    head, _, body = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"\r\nretry-after: 1\r\n" in head + b"\r\n"
    assert json.loads(body)["error"]["code"] == "unavailable"
    probes = [await ask(b"/system/liveness") for _ in range(9)]
    assert [answer[:12] for answer, _ in probes[:7]] == [b"HTTP/1.1 200"] * 7
    assert probes[8][0] == b""  # beyond twice as many
    for writer in (last, *(each for _, each in (*answers, *probes))):
        writer.close()

    async def served() -> bool:
        answer, writer = await ask(b"/nothing")
        writer.close()
        return answer.startswith(b"HTTP/1.1 404")

    await eventually(served)
