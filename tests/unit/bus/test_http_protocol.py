"""The HTTP of services on a real socket: every form of a request is answered, every error is JSON."""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import get, post
from litestar.params import FromQuery, RawBody
from litestar.response import ServerSentEvent

from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application, serve
from cloudmatch_bus.process.http_protocol import HEAD_MAX
from cloudmatch_bus.process.listen import listen

PATIENCE = 10.0  # s
SEED = 20191130


@get("/echo", sync_to_thread=False)
def echo(word: FromQuery[str] = "") -> str:
    """Return the parameter."""
    return word


@post("/length", status_code=200)
async def length(body: RawBody) -> int:
    """Return how long the body is."""
    return len(body)


@get("/endless")
async def endless() -> ServerSentEvent:
    """Stream for ever."""

    async def events() -> AsyncIterator[str]:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)

    return ServerSentEvent(events())


@pytest.fixture
async def port(caplog: pytest.LogCaptureFixture) -> AsyncIterator[int]:
    """Serve these; nothing may be logged as a warning, nor escape to the event loop."""
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # as in a service
    stop = asyncio.Event()
    sock = listen("127.0.0.1", 0, "")
    app = application("test", Health(), [echo, length, endless], ["https://page"])
    serving = asyncio.create_task(serve(app, "test", [sock], stop))
    yield sock.getsockname()[1]
    stop.set()
    await serving
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert escaped == []


async def exchange(port: int, *chunks: bytes) -> bytes:
    """Send chunks, then end; return all that is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


async def ask(port: int, line: bytes, headers: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send one request; return status, headers and body."""
    answer = await exchange(port, line + b"\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, v in (each.split(": ", 1) for each in lines)}, body


def code(body: bytes) -> str:
    error: dict[str, str] = json.loads(body)["error"]
    assert error["detail"]
    return error["code"]


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),  # without Host
        ("GET /echo?word=温 HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "bad_request"),
        (b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * HEAD_MAX, 414, "uri_too_long"),
        (b"GET /" + b"a" * HEAD_MAX + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * HEAD_MAX, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * HEAD_MAX + b"\r\nHost: a\r\n\r\n", 431, "headers_too_large"),
    ],
)
async def test_what_is_no_request_is_refused_in_the_shape_of_all_errors(
    port: int, data: bytes, status: int, error: str
) -> None:
    for chunks in ([data], [data[:20], data[20:]]):
        head, _, body = (await exchange(port, *chunks)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nContent-Type: application/json\r\n" in head
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        assert code(body) == error


async def test_raw_utf8_in_a_url_is_said_to_need_percent_encoding(port: int) -> None:
    answer = await exchange(port, "GET /echo?word=温 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert b"percent-encoded" in answer


async def test_an_upgrade_is_ignored(port: int) -> None:
    upgrade = (
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    assert (await ask(port, b"GET /echo?word=a HTTP/1.1", upgrade))[2] == b"a"


@pytest.mark.parametrize("target", [b"/echo?word=a", b"http://b:1/echo?word=a", b"HTTPS://b/echo?word=a"])
async def test_blank_lines_long_headers_and_absolute_targets_are_read(port: int, target: bytes) -> None:
    status, _, body = await ask(
        port, b"\r\n\r\nGET " + target + b" HTTP/1.1", b"A: " + b"b" * 15_000 + b"\r\n"
    )
    assert (status, body) == (200, b"a")


@pytest.mark.parametrize(
    "path", [b"/echo?word=abc", b"/system/liveness", b"/system/readiness", b"/schema/openapi.json", b"/no"]
)
async def test_head_is_get_without_the_body(port: int, path: bytes) -> None:
    status, headers, body = await ask(port, b"GET " + path + b" HTTP/1.1")
    assert int(headers["content-length"]) == len(body) > 0
    del headers["date"]
    head = await ask(port, b"HEAD " + path + b" HTTP/1.1")
    del head[1]["date"]
    assert head == (status, headers, b"")


async def test_head_of_a_stream_ends(port: int) -> None:
    status, headers, body = await ask(port, b"HEAD /endless HTTP/1.1")
    assert (status, body) == (200, b"")
    assert headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        (b"OPTIONS * HTTP/1.0", "GET, HEAD, OPTIONS"),
        (b"OPTIONS / HTTP/1.0", "GET, HEAD, OPTIONS"),
        (b"OPTIONS /echo HTTP/1.1", "GET, HEAD, OPTIONS"),
        (b"OPTIONS /metrics HTTP/1.1", "GET, HEAD, OPTIONS"),
        (b"OPTIONS http://a/length HTTP/1.1", "OPTIONS, POST"),
    ],
)
async def test_options_say_what_is_allowed_and_pages_are_told_what_is_for_them(
    port: int, line: bytes, allow: str
) -> None:
    status, headers, body = await ask(port, line)
    assert (status, headers["allow"], body) == (204, allow, b"")
    assert "access-control-allow-origin" not in headers
    asking = b"Origin: https://page\r\nAccess-Control-Request-Method: GET\r\n"
    status, headers, _ = await ask(port, line, asking)
    assert (status, headers["allow"], headers["access-control-allow-origin"]) == (204, allow, "https://page")
    assert headers["access-control-allow-methods"] == "GET, HEAD"
    status, headers, body = await ask(port, line, asking.replace(b"page", b"other"))
    assert (status, code(body)) == (400, "bad_request")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("line", "status", "error", "allow"),
    [
        (b"OPTIONS /no HTTP/1.1", 404, "not_found", None),
        (b"GET /no HTTP/1.1", 404, "not_found", None),
        (b"CONNECT a:1 HTTP/1.1", 404, "not_found", None),
        (b"PUT /echo HTTP/1.1", 405, "method_not_allowed", "GET, HEAD, OPTIONS"),
        (b"BREW /system/liveness HTTP/1.1", 405, "method_not_allowed", "GET, HEAD, OPTIONS"),
        (b"GET /length HTTP/1.1", 405, "method_not_allowed", "OPTIONS, POST"),
        (b"HEAD /length HTTP/1.1", 405, None, "OPTIONS, POST"),
    ],
)
async def test_paths_and_methods_that_there_are_not_are_json_and_methods_named(
    port: int, line: bytes, status: int, error: str | None, allow: str | None
) -> None:
    found, headers, body = await ask(port, line)
    assert (found, headers.get("allow")) == (status, allow)
    assert headers["content-type"] == "application/json"
    assert (code(body) if body else None) == error


async def test_requests_follow_each_other_on_one_connection(port: int) -> None:
    get_ = b"GET /echo?word=%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    last = get_.replace(b"Host", b"Connection: close\r\nHost")
    answer = await exchange(port, get_ % 1 + get_ % 2, last % 3 + b"more")
    assert answer.count(b"HTTP/1.1 200 ") == 3


async def test_a_connection_that_ends_within_a_body_is_no_failure(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await ask(port, b"GET /echo HTTP/1.1"))[0] == 200


PIECES = [
    *(
        b"GET ",
        b"HEAD ",
        b"OPTIONS ",
        b"POST ",
        b"/",
        b"*",
        b"/echo?word=",
        b"/length",
        b"http://b",
        b"%ff",
        b"%00",
    ),
    *(
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"Host: a\r\n",
        b": ",
        b" ",
        b"\xe6",
        b"\x00",
    ),
    *(
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Origin: null\r\n",
        b"3\r\nabc\r\n",
        b"zz\r\n",
    ),
    *(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Expect: 100-continue\r\n", b"x" * 17_000),
    *(
        b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
    ),
]


async def test_any_bytes_are_answered_or_the_connection_ends(port: int) -> None:
    rng = random.Random(SEED)  # noqa: S311 # not a secret

    async def one() -> None:
        chunks = [rng.choice(PIECES) for _ in range(rng.randrange(12))]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                writer.write(chunk)
                if rng.random() < 0.3:
                    await writer.drain()
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            assert not answer or answer.startswith(b"HTTP/1.1 "), chunks
            assert b" 500 " not in answer.partition(b"\r\n")[0], chunks
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    for _ in range(10):
        await asyncio.gather(*(one() for _ in range(40)))
