"""A socket before it is a device's: what is answered to HTTP, and to bytes that are none."""

import base64
import json
import logging
import socket
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.process.health import Health
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets.connection import Connection
from cloudmatch_edge.sockets.listener import Listener

HOST = b"Host: edge\r\n"
WHO = b"/device/connect?id=a&lat=1&lon=1"
KEY = base64.b64encode(bytes(16))
UPGRADE = {
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
PATHS = ("/", "/cloudmatch.js", "/services.json", "/system/liveness", "/system/readiness", "/metrics")


OPEN = socket.socketpair()  # stands for the socket of a transport in memory


class Transport:
    """A socket that keeps what is written."""

    def __init__(self, *, half_closes: bool = True, sock: socket.socket = OPEN[0]) -> None:
        self.written = b""
        self.closed = False  # at least our direction
        self._half_closes = half_closes
        self._sock = sock

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Ignore the limits."""

    def can_write_eof(self) -> bool:
        return self._half_closes

    def is_closing(self) -> bool:
        return self.closed and not self._half_closes

    def write(self, data: bytes) -> None:
        assert not self.closed, "nothing may follow an answer"
        self.written += data

    def write_eof(self) -> None:
        self.closed = True

    close = abort = write_eof

    def pause_reading(self) -> None:
        """Ignore it."""

    resume_reading = pause_reading

    def get_extra_info(self, _: str) -> "Transport":
        """Return what plays the socket."""
        return self

    def fileno(self) -> int:
        """Return the descriptor of a socket that tells whether the client is there."""
        return self._sock.fileno()

    def getsockopt(self, _: int, __: int, size: int) -> bytes:
        """Return that nothing has passed."""
        return bytes(size)


class Hub:
    """Accepts every device, and forgets it."""

    full = None

    def replaces(self, _: object) -> bool:
        return False

    def app_full(self, _: object) -> bool:
        return False

    def wait(self, _: object) -> float:
        return 0.0


class Device:
    """A device that reads everything."""

    credit = (64, 64 * 1024)
    dialect = Classic("edge")

    def on_frames(self, _: object) -> None:
        """Ignore frames."""

    def on_controls(self, _: int) -> None:
        """Let it send any number."""


class OneDevice(Listener):
    """The listener of an edge, without a bus."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(EdgeSettings(**settings), Health())
        self.open(Hub())  # type: ignore[arg-type]  # what of it is used here
        self.joined = 0

    def join(self, *_: object, **__: object) -> Any:
        self.joined += 1
        return Device()

    def leave(self, *_: object) -> None:
        self.joined -= 1


class Answer(NamedTuple):
    """An HTTP answer, as received."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        assert self.headers["Content-Type"] == "application/json"
        error: dict[str, str] = json.loads(self.body)["error"]
        assert error["detail"]
        return error["code"]


def read(data: bytes) -> Answer:
    """Parse the one answer that `data` is."""
    head, end, body = data.partition(b"\r\n\r\n")
    assert end
    line, *lines = head.decode().split("\r\n")
    version, status, _ = line.split(" ", 2)
    assert version == "HTTP/1.1"
    return Answer(int(status), dict(each.split(": ", 1) for each in lines), body)


async def talk(*chunks: bytes, origins: str = "", half_closes: bool = True) -> Transport:
    """Let a connection receive these chunks; return what it did."""
    transport = Transport(half_closes=half_closes)
    connection = Connection(OneDevice(origins=origins))
    connection.connection_made(transport)  # type: ignore[arg-type]  # what of it is used here
    for chunk in chunks:
        if not transport.is_closing():
            connection.data_received(chunk)
    if not transport.is_closing():
        connection.eof_received()
    connection.connection_lost(None)
    return transport


async def ask(target: bytes, headers: dict[bytes, bytes] | None = None, **more: Any) -> Answer:
    """Send a request; `more` has its `method`, `version` and the `origins` of the edge."""
    method, version = more.pop("method", b"GET"), more.pop("version", b"1.1")
    lines = b"".join(b"%s: %s\r\n" % each for each in (headers or {}).items())
    transport = await talk(
        method + b" " + target + b" HTTP/" + version + b"\r\n" + HOST + lines + b"\r\n", **more
    )
    assert transport.closed
    return read(transport.written)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere", "/device/connect", WHO.decode()])
async def test_head_is_get_without_the_body(path: str) -> None:
    get = await ask(path.encode())
    head = await ask(path.encode(), method=b"HEAD")
    assert head.status == get.status
    assert head.body == b""
    assert head.headers.keys() == get.headers.keys()
    if path != "/metrics":  # grows
        assert head.headers == get.headers
        assert int(get.headers["Content-Length"]) == len(get.body)


@pytest.mark.parametrize("path", [*PATHS, "*", "/device/connect", "http://edge/"])
async def test_options_are_allowed_to_pages_and_load_balancers(path: str) -> None:
    answer = await ask(path.encode(), method=b"OPTIONS", version=b"1.0")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Allow"] == answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert not {"Content-Length", "Content-Type"} & answer.headers.keys()


async def test_options_of_nothing_are_404() -> None:
    answer = await ask(b"/nowhere", method=b"OPTIONS")
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"CONNECT", b"get", b"BREW"])
async def test_other_methods_are_405_and_those_allowed_are_named(method: bytes) -> None:
    for path in (b"/", WHO, b"/nowhere"):
        answer = await ask(path, UPGRADE, method=method)
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_what_follows_an_answer_is_dropped(method: bytes, caplog: pytest.LogCaptureFixture) -> None:
    request = method + b" /system/liveness HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
    for chunks in ((request, request), (request + request,), (request, b"\x81\x00", b"noise" * 10_000)):
        for half_closes in (True, False):  # TLS does not
            transport = await talk(*chunks, half_closes=half_closes)
            answer = read(transport.written)
            assert answer.status == (200 if method == b"GET" else 405)
            assert answer.headers["Connection"] == "close"
            assert len(answer.body) == int(answer.headers["Content-Length"]), "one answer"
            assert transport.closed
    assert not caplog.records


async def test_a_websocket_is_accepted_whatever_case_and_headers_it_has() -> None:
    noise = {b"X-Long": b"x" * 9_000, b"Cookie": b"\xff"}
    for headers in (UPGRADE, {k.lower(): v for k, v in UPGRADE.items()}, UPGRADE | noise):
        for target in (WHO, b"http://edge" + WHO):
            answer = await ask(target, headers)
            assert (answer.status, answer.body) == (101, b"")


@pytest.mark.parametrize(
    ("headers", "version", "why"),
    [
        ({}, b"1.1", "Connection"),
        (UPGRADE | {b"Upgrade": b"h2c"}, b"1.1", "h2c"),
        (UPGRADE | {b"Sec-WebSocket-Version": b"8"}, b"1.1", "Sec-WebSocket-Version"),
        ({b"Connection": b"Upgrade", b"Upgrade": b"websocket", b"Sec-WebSocket-Key": KEY}, b"1.1", "Version"),
        (UPGRADE, b"1.0", "HTTP/1.1"),
    ],
)
async def test_a_device_without_a_websocket_of_version_13_is_426(
    headers: dict[bytes, bytes], version: bytes, why: str
) -> None:
    answer = await ask(WHO, headers, version=version)
    assert (answer.status, answer.code) == (426, "upgrade_required")
    assert why in json.loads(answer.body)["error"]["detail"]
    assert answer.headers["Upgrade"] == "websocket"
    assert answer.headers["Connection"] == "close, Upgrade"
    assert answer.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    "headers",
    [
        UPGRADE | {b"Sec-WebSocket-Key": b"short"},
        UPGRADE | {b"Sec-WebSocket-Key": b"\xff"},
        UPGRADE | {b"Connection": b"Upgrade, ="},
        UPGRADE | {b"Content-Length": b"5"},
        UPGRADE | {b"Transfer-Encoding": b"chunked"},
    ],
)
async def test_a_malformed_handshake_is_400_with_its_reason(headers: dict[bytes, bytes]) -> None:
    answer = await ask(WHO, headers)
    assert (answer.status, answer.code) == (400, "bad_handshake")


@pytest.mark.parametrize(
    ("query", "parameter"), [("id=温&lat=1&lon=1", "id"), ("id=a&lat=1&lon=1&tag=é", "tag"), ("é=1", "query")]
)
async def test_characters_that_are_not_percent_encoded_are_an_error_of_their_parameter(
    query: str, parameter: str
) -> None:
    for raw in (query.encode(), query.encode("latin-1", "replace")):
        if raw.isascii():
            continue
        answer = await ask(b"/device/connect?" + raw, UPGRADE)
        assert (answer.status, answer.code) == (400, "bad_parameter")
        assert json.loads(answer.body)["error"]["parameter"] == parameter


LISTED = "https://good.example/, HTTPS://Other.example:443"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # no browser
        ({b"Referer": b"https://bad.example/page"}, True),  # the same: a browser says Origin here
        ({b"Origin": b"https://good.example"}, True),
        ({b"Origin": b"https://other.example"}, True),
        ({b"Origin": b"https://bad.example"}, False),
        ({b"Origin": b"http://good.example"}, False),
        ({b"Origin": b"https://good.example.bad.example"}, False),
        ({b"Origin": b"null"}, False),
        ({b"Origin": b""}, False),
        ({b"Origin": b"\xff"}, False),
    ],
)
async def test_pages_of_listed_origins_and_what_is_no_browser_may_connect(
    headers: dict[bytes, bytes], *, allowed: bool
) -> None:
    for method in (b"GET", b"HEAD"):  # of which only GET connects
        answer = await ask(WHO, UPGRADE | headers, origins=LISTED, method=method)
        assert answer.status == (403 if not allowed else 101 if method == b"GET" else 426)
    assert (await ask(WHO, UPGRADE | headers, origins="*")).status == 101
    assert (await ask(b"/system/liveness", headers, origins=LISTED)).status == 200


@pytest.mark.parametrize("header", [b"Origin: https://bad.example", b"Referer: https://bad.example/page?[#"])
async def test_a_page_that_was_refused_may_read_why(header: bytes) -> None:
    name, _, value = header.partition(b": ")
    answer = await ask(WHO, {name: value}, origins=LISTED)
    assert (answer.status, answer.code) == (403, "forbidden_origin")
    assert json.loads(answer.body)["error"]["detail"] == (
        "pages of https://bad.example may not connect devices: see CLOUDMATCH_EDGE_ORIGINS"
    )
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


PIECES = [
    *(
        b"GET ",
        b"HEAD ",
        b"OPTIONS ",
        b"POST ",
        b"/",
        b"*",
        b"/metrics",
        WHO,
        b"http://a",
        b"?id=\xe6&",
        b"%ff",
    ),
    *(b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", HOST, b"Origin: null\r\n", b": ", b" "),
    *(
        b"Content-Length: 9\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Referer: http://[\r\n",
        b"\x81\x85",
        b"\x00",
    ),
    *(name + b": " + value + b"\r\n" for name, value in UPGRADE.items()),
    b"GET " + WHO + b" HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % each for each in UPGRADE.items()) + b"\r\n",
    *(b"Sec-WebSocket-Protocol: cloudmatch.v1\r\n", b"Sec-WebSocket-Protocol: ,\r\n", b"x" * 17_000),
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=30), st.booleans())
async def test_any_bytes_are_answered_or_wait_for_more_and_nothing_is_logged(
    pieces: list[bytes], half_closes: bool
) -> None:
    logged: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = logged.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        for chunks in (pieces, [b"".join(pieces)]):
            transport = await talk(*chunks, half_closes=half_closes)
            if transport.written.startswith(b"HTTP/1.1 101 "):
                continue
            if transport.written:
                answer = read(transport.written)
                assert transport.closed
                if answer.status >= 400 and answer.body:
                    assert answer.code
                assert len(answer.body) in (0, int(answer.headers.get("Content-Length", "0")))
    finally:
        logging.getLogger().removeHandler(handler)
    assert not logged


async def test_a_device_that_has_given_up_before_its_request_is_read_never_joins() -> None:
    def join(*_: object, **__: object) -> None:
        raise AssertionError("it has joined")

    listener = OneDevice()
    listener.join = join  # type: ignore[method-assign,assignment]
    ours, theirs = socket.socketpair()
    theirs.close()
    lines = b"".join(b"%s: %s\r\n" % each for each in UPGRADE.items())
    with ours:
        connection = Connection(listener)
        connection.connection_made(Transport(sock=ours))  # type: ignore[arg-type]  # what of it is used here
        connection.data_received(b"GET " + WHO + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n")
        connection.connection_lost(None)
