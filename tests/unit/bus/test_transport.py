"""The fast transport beside nats-py's own parser: both receive the same, however the stream is cut."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from nats.aio.client import Client as NatsClient
from nats.js.api import Header
from nats.protocol.parser import Parser

from cloudmatch_bus.client.connection import Headers
from cloudmatch_bus.client.transport import BACKLOG, MAX_LINE, NatsProtocol, parse_headers
from harness.bus import counted

OURS = ("1", "2")  # subscriptions with handlers
Received = list[tuple[Any, ...]]


class Library:
    """The part of a client that nats-py's parser calls."""

    def __init__(self) -> None:
        self.received: Received = []
        self.messages: dict[str, Received] = {}

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        received = (subject.decode(), reply.decode(), data, headers is not None)
        self.messages.setdefault(str(sid), []).append(received)
        if str(sid) not in OURS:
            self.received.append((sid, *received))

    async def _process_ping(self) -> None:
        self.received.append(("ping",))

    async def _process_pong(self) -> None:
        self.received.append(("pong",))

    async def _process_err(self, text: str) -> None:
        self.received.append(("error", text))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.received.append(("info", info))


class Socket(asyncio.Transport):
    """A socket that records what is written and is never full."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.closing = True


class Client:
    """A protocol with two handlers, and the library behind it."""

    def __init__(self) -> None:
        self.library = Library()
        self.quick: dict[str, int] = dict.fromkeys(OURS, 0)  # messages handled at once
        self.protocol = NatsProtocol({sid: self.handler(sid) for sid in OURS}, limit=1 << 20)
        self.socket = Socket()
        self.protocol.connection_made(self.socket)
        self.parser = Parser(self.library)
        self.reader = asyncio.create_task(self._read())

    def handler(self, sid: str) -> Any:
        def handle(subject: str, reply: str, payload: bytes, headers: Headers) -> None:
            self.quick[sid] += 1
            received = (subject, reply, payload, headers is not None)
            self.library.messages.setdefault(sid, []).append(received)

        return handle

    async def _read(self) -> None:
        while not self.protocol.at_eof():
            await self.parser.parse(await self.protocol.read())

    async def end(self) -> None:
        self.protocol.connection_lost(None)
        await self.reader


def message(sid: str, reply: str, payload: bytes, headers: bytes) -> bytes:
    to = f"{sid} {reply} " if reply else f"{sid} "
    if headers:
        head = b"NATS/1.0\r\n" + headers + b"\r\n\r\n"
        return (
            f"HMSG t.{sid} {to}{len(head)} {len(head) + len(payload)}\r\n".encode() + head + payload + b"\r\n"
        )
    return f"MSG t.{sid} {to}{len(payload)}\r\n".encode() + payload + b"\r\n"


# Payloads that look like the protocol are among them.
payloads = some.binary(max_size=40) | some.sampled_from(
    [b"\r\n", b"PING\r\n", b"MSG t.1 1 4\r\nciao\r\n", b"M", b"H"]
)
messages = some.builds(
    message,
    some.sampled_from(["1", "2", "3"]),
    some.sampled_from(["", "r.e"]),
    payloads,
    some.sampled_from([b"", b"A: b"]),
)
lines = some.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'no'\r\n", b'INFO {"ldm":true}\r\n'])
units = some.lists(messages | lines, max_size=30)


async def plain(stream: bytes) -> Library:
    library = Library()
    await Parser(library).parse(stream)
    return library


@given(units=units, data=some.data())
def test_handlers_and_library_receive_what_the_library_alone_receives(
    units: list[bytes], data: some.DataObject
) -> None:
    async def run() -> None:
        stream = b"".join(units)
        client = Client()
        at = 0
        while at < len(stream):
            end = at + data.draw(some.integers(1, 60), label="bytes")
            client.protocol.data_received(stream[at:end])
            at = end
            for _ in range(data.draw(some.integers(0, 3), label="turns")):
                await asyncio.sleep(0)
        await client.end()
        alone = await plain(stream)
        assert client.library.received == alone.received
        assert client.library.messages == alone.messages

    asyncio.run(run())


names = some.binary(min_size=1, max_size=8).map(lambda name: name.translate(None, b" \t\r\n") or b"x")


@given(names=some.lists(some.tuples(names, names, some.sampled_from(["1", "2", "3"]), some.booleans())))
def test_whatever_bytes_a_subject_has_its_message_arrives_and_so_do_the_others(
    names: list[tuple[bytes, bytes, str, bool]],
) -> None:
    async def run() -> None:
        client = Client()
        sent: dict[str, list[tuple[bytes, bool]]] = {}
        for number, (subject, reply, sid, with_headers) in enumerate(names):
            payload = b"%d" % number
            unit = message(sid, "REPLY", payload, b"A: b" if with_headers else b"")
            unit = unit.replace(f"t.{sid}".encode(), subject, 1).replace(b"REPLY", reply, 1)
            client.protocol.data_received(unit)
            sent.setdefault(sid, []).append((payload, with_headers))
        await client.end()
        received = {
            sid: [(payload, headers) for _, _, payload, headers in each]
            for sid, each in client.library.messages.items()
        }
        assert received == sent

    asyncio.run(run())


async def test_a_subject_that_cannot_be_read_is_counted_and_one_that_can_is_not() -> None:
    client, before = Client(), counted("cloudmatch_bus_unreadable_total")
    for subject in (b"t.1", "t.ù".encode()):
        client.protocol.data_received(b"MSG %s 1 1\r\na\r\n" % subject)
        client.protocol.data_received(b"MSG %s 3 1\r\na\r\n" % subject)
    assert counted("cloudmatch_bus_unreadable_total") == before
    client.protocol.data_received(b"MSG t.\xff 1 1\r\na\r\n")
    client.protocol.data_received(b"MSG t.\xff\x0b 3 1\r\na\r\n")
    client.protocol.data_received(b"MSG t\x0b1 3 1\r\na\r\n")  # nats-py would read 1 as the subscription
    await client.end()
    assert counted("cloudmatch_bus_unreadable_total") == before + 3
    assert [each[0] for each in client.library.messages["1"]] == ["t.1", "t.ù", "t.\ufffd"]
    assert [each[0] for each in client.library.messages["3"]][2:] == ["t.\ufffd\ufffd", "t\ufffd1"]


async def test_messages_are_handled_at_once_and_overtake_none_of_their_subscription() -> None:
    client = Client()
    await asyncio.sleep(0)
    client.protocol.data_received(message("1", "", b"a", b"") + message("1", "", b"b", b"A: b"))
    assert client.quick == {"1": 2, "2": 0}, "at once"
    handlers = client.protocol._handlers
    late = handlers.pop("1")  # as while it is being subscribed
    client.protocol.data_received(message("1", "", b"c", b""))
    handlers["1"] = late
    client.protocol.data_received(message("1", "", b"d", b"") + message("2", "", b"e", b"A: b"))
    assert client.quick == {"1": 2, "2": 1}, "another subscription need not wait"
    for _ in range(3):
        await asyncio.sleep(0)
    client.protocol.data_received(message("1", "", b"f", b""))
    assert client.quick["1"] == 3, "the library has handled all of that subscription"
    assert [payload for _, _, payload, _ in client.library.messages["1"]] == [*(b"a", b"b", b"c", b"d", b"f")]
    await client.end()


names_of_headers = some.text("abcABC-", min_size=1, max_size=8)
values_of_headers = some.binary(max_size=12).map(lambda value: value.translate(None, b"\r\n"))


@given(some.lists(some.tuples(names_of_headers, values_of_headers), max_size=5))
def test_headers_are_read_as_the_library_reads_them(lines: list[tuple[str, bytes]]) -> None:
    raw = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in lines)
    ours = parse_headers(b"NATS/1.0\r\n" + raw + b"\r\n") or {}
    theirs = NatsClient._parse_header_lines(raw)
    assert ours.keys() == theirs.keys()
    assert {each: value.strip() for each, value in theirs.items()} == ours


@given(some.binary(max_size=60))
def test_headers_of_any_bytes_are_read(raw: bytes) -> None:
    assert "Status" not in (parse_headers(b"NATS/1.0\r\n" + raw) or {})


def test_a_status_is_what_the_server_says_and_nobody_else() -> None:
    assert parse_headers(b"NATS/1.0 204 EOB\r\nA: b\r\n\r\n") == {"A": "b", "Status": "204"}
    assert parse_headers(b"NATS/1.0 503\r\n\r\n") == {"Status": "503"}
    assert parse_headers(b"NATS/1.0\r\nStatus: 404\r\nA:b\r\n\r\n") == {"A": "b"}
    assert parse_headers(b"NATS/1.0\r\n\r\n") is None


async def test_the_socket_is_not_read_while_the_library_is_behind() -> None:
    protocol = NatsProtocol({}, limit=1)
    socket = Socket()
    protocol.connection_made(socket)
    unit = message("3", "", bytes(1 << 20), b"")
    while socket.reading:
        protocol.data_received(unit)
        assert protocol._backlog <= BACKLOG + len(unit)
    assert len(await protocol.read()) > BACKLOG
    assert socket.reading


async def test_an_endless_line_aborts_the_connection() -> None:
    protocol = NatsProtocol({}, limit=1)
    socket = Socket()
    protocol.connection_made(socket)
    protocol.data_received(bytes(MAX_LINE))
    assert not socket.closing
    protocol.data_received(b"x")
    assert socket.closing


async def test_everything_published_in_one_turn_is_written_at_once_and_in_order() -> None:
    protocol = NatsProtocol({}, limit=1)
    socket = Socket()
    protocol.connection_made(socket)
    protocol.write(b"SUB t  1\r\n")
    protocol.publish("t", b"ciao", "", None)
    protocol.publish("t", b"", "r", {Header.MSG_ID: "a\r\nb"})
    assert socket.written == b""
    await asyncio.sleep(0)
    head = b"NATS/1.0\r\nNats-Msg-Id: a b\r\n\r\n"
    assert socket.written == (
        b"SUB t  1\r\nPUB t  4\r\nciao\r\n" + b"HPUB t r %d %d\r\n" % (len(head), len(head)) + head + b"\r\n"
    )


async def test_draining_a_closed_connection_raises_and_reading_it_returns_nothing() -> None:
    protocol = NatsProtocol({}, limit=1)
    protocol.connection_made(Socket())
    protocol.pause_writing()
    assert protocol.full
    protocol.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await protocol.drain()
    assert await protocol.read() == b""
    assert await protocol.readline() == b""
    assert protocol.at_eof()
