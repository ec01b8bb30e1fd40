"""The socket to NATS, with a fast path for messages that have a handler.

nats-py's client reads and writes through its `Transport`; `FastTransport` is one. Messages whose subscription
has a handler are cut from the stream right here and handled at once, without a queue or a task. Everything
else goes to nats-py's parser in whole units: pings, errors, replies. Messages of one subscription stay in
order: while the parser has one, later ones follow it.

Everything published within one turn of the event loop is written by one call.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import ParseResult

from nats.aio.transport import Transport
from prometheus_client import Counter

log = logging.getLogger("bus")

Headers = dict[str, str] | None
Handler = Callable[[str, str, bytes, Headers], None]  # subject, reply, payload, headers

END = b"\r\n"
MSG, HMSG = b"MH"  # first byte of a message; any other unit is one line
STATUS = "Status"  # name by which handlers get a status
MAX_LINE = 1024 * 1024  # bytes
BACKLOG = 4 * 1024 * 1024  # bytes waiting for the parser, above which the socket is not read
CLOSE_TIMEOUT = 1.0  # s for what was written to leave a socket that is being closed

_BLANK = re.compile(r"[\t\n\r\v\f]")  # what separates words for nats-py, but not for servers

_unreadable = Counter(
    "cloudmatch_bus_unreadable", "Messages whose subject, reply address or headers cannot be read"
)
_failures = Counter("cloudmatch_bus_handler_failures", "Messages whose handler raised an exception")


def log_handler_failure(subject: str) -> None:
    """Log and count the current exception; it costs one message, not the connection."""
    log.exception("handler failed on %s", subject)
    _failures.inc()


def count_unreadable() -> None:
    """Count a message that is passed on without what cannot be read."""
    _unreadable.inc()


def readable(text: bytes) -> bytes:
    """Return a subject, or a line of them, with a question mark (U+FFFD) for whatever cannot be read: readers
    of streams have to know of each message, and nobody knows such a subject."""
    count_unreadable()
    return _BLANK.sub("\ufffd", text.decode(errors="replace")).encode()


def parse_headers(head: bytes) -> Headers:
    """Parse headers, and the status of an answer of the server as `Status`: what others call so is none."""
    begin, *lines = head.decode(errors="replace").split("\r\n")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    headers.pop(STATUS, None)
    if status := begin[len("NATS/1.0 ") :][:3]:
        headers[STATUS] = status
    return headers or None


def _head(headers: dict[str, str]) -> bytes:
    """Encode headers; line ends within values become spaces."""
    # Joined, not formatted: names from nats-py are enumeration members, which would be formatted as such.
    lines = ("".join((name, ": ", " ".join(value.splitlines()), "\r\n")) for name, value in headers.items())
    return "".join(("NATS/1.0\r\n", *lines, "\r\n")).encode()


class NatsProtocol(asyncio.Protocol):
    """One connection to a server.

    Args:
        handlers: by subscription id, as the server writes it.
        limit: bytes waiting for the socket, above which it is `full`.
    """

    def __init__(self, handlers: dict[str, Handler], limit: int) -> None:
        self.socket: asyncio.Transport  # from `connection_made` on
        self.full = False
        self.closed = asyncio.Event()
        self._handlers = handlers
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._outgoing: list[bytes] = []  # written at the end of this turn
        self._writable = asyncio.Event()  # not full
        self._writable.set()
        self._partial = b""  # a unit that is not complete yet
        self._needed = 0  # bytes it must have to be worth looking at again
        self._units: list[bytes] = []  # whole units for the parser
        self._backlog = 0  # bytes of them
        self._behind: set[str] = set()  # subscriptions with messages that the parser has yet to handle
        self._reader: asyncio.Future[None] | None = None

    # -- callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast("asyncio.Transport", transport)  # uvloop's is one without declaring it
        self.socket.set_write_buffer_limits(self._limit)

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        if len(data) < self._needed:
            self._partial = data
            return
        self._partial = data[self._consume(data) :]
        if self._units:
            self._wake()
            if self._backlog > BACKLOG:
                self.socket.pause_reading()
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed.set()
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self.full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self.full = False
        self._writable.set()

    # -- receiving

    def _consume(self, data: bytes) -> int:
        """Handle messages or queue units for the parser; return where the first incomplete unit begins."""
        find, handlers, behind = data.find, self._handlers, self._behind
        at, have = 0, len(data)
        self._needed = 0
        while (line := find(END, at)) >= 0:
            end = line + 2
            first = data[at]
            if first in (MSG, HMSG):
                # MSG <subject> <sid> [reply] <size>, HMSG <subject> <sid> [reply] <size of headers> <size>
                head = as_sent = data[at:line]
                try:
                    words = head.decode().split(" ")
                except UnicodeDecodeError:
                    head = readable(head)
                    words = head.decode().split(" ")
                end += int(words[-1]) + 2
                if end > have:
                    self._needed = end - at
                    return at
                sid = words[2]
                if sid not in behind and (handler := handlers.get(sid)) is not None:
                    at = end
                    try:
                        if first == MSG:
                            reply = words[3] if len(words) == 5 else ""
                            handler(words[1], reply, data[line + 2 : end - 2], None)
                        else:
                            reply = words[3] if len(words) == 6 else ""
                            begin = line + 2 + int(words[-2])
                            headers = parse_headers(data[line + 2 : begin])
                            handler(words[1], reply, data[begin : end - 2], headers)
                    except Exception:  # noqa: BLE001  # logged and counted
                        log_handler_failure(words[1])
                    continue
                behind.add(sid)
                if len(head.split()) != len(words):
                    head = readable(head)
                self._units.append(data[at:end] if head is as_sent else head + data[line:end])
            else:
                self._units.append(data[at:end])
            self._backlog += end - at
            at = end
        if have - at > MAX_LINE:
            self.socket.abort()
        return at

    async def read(self) -> bytes:
        """Return all units for the parser, waiting for one; b"" at the end of the connection."""
        if not self._units:
            self._behind.clear()
            await self._wait()
        data = b"".join(self._units)
        self._units.clear()
        self._backlog = 0
        self._resume_reading()
        return data

    async def readline(self) -> bytes:
        """Return one unit; b"" at the end of the connection."""
        if not self._units:
            await self._wait()
        if not self._units:
            return b""
        unit = self._units.pop(0)
        self._backlog -= len(unit)
        return unit

    def at_eof(self) -> bool:
        """Whether there is nothing more to read."""
        return self.closed.is_set() and not self._units

    async def _wait(self) -> None:
        if not self.closed.is_set():
            self._reader = self._loop.create_future()
            await self._reader

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _resume_reading(self) -> None:
        if not self.socket.is_closing() and not self.socket.is_reading():
            self.socket.resume_reading()

    # -- sending

    def publish(self, subject: str, payload: bytes, reply: str, headers: Headers) -> None:
        """Write a message at the end of this turn."""
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        if headers is None:
            self._outgoing += (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload, END)
        else:
            head = _head(headers)
            size = len(head) + len(payload)
            self._outgoing += (f"HPUB {subject} {reply} {len(head)} {size}\r\n".encode(), head, payload, END)

    def write(self, data: bytes) -> None:
        """Write at the end of this turn."""
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing.append(data)

    def flush(self) -> None:
        """Write now; on a connection that is closing, drop instead."""
        if self._outgoing:
            if not self.socket.is_closing():
                self.socket.write(b"".join(self._outgoing))
            self._outgoing.clear()

    async def drain(self) -> None:
        """Write now, and wait while the socket is full.

        Raises:
            ConnectionResetError: the connection is closed.
        """
        self.flush()
        await self._writable.wait()
        if self.closed.is_set():
            raise ConnectionResetError("the connection to NATS is closed")

    async def start_tls(self, context: ssl.SSLContext, hostname: str | None) -> None:
        """Upgrade the connection to TLS."""
        transport = await self._loop.start_tls(self.socket, self, context, server_hostname=hostname)
        assert transport is not None
        self.connection_made(transport)


class FastTransport(Transport):
    """The client's connections to servers, one after the other; set as its transport before it connects.

    Args: as for `NatsProtocol`.
    """

    def __init__(self, handlers: dict[str, Handler], limit: int) -> None:
        self._handlers = handlers
        self._limit = limit
        self.protocol: NatsProtocol | None = None  # of the newest connection

    def __bool__(self) -> bool:
        return True

    @property
    def _connected(self) -> NatsProtocol:
        if self.protocol is None:
            raise ConnectionError("not connected to NATS yet")
        return self.protocol

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect to a server, which sends first."""
        assert uri.hostname is not None
        assert uri.port is not None  # the client ensures both

        def protocol() -> NatsProtocol:
            return NatsProtocol(self._handlers, self._limit)

        connecting = asyncio.get_running_loop().create_connection(protocol, uri.hostname, uri.port)
        _, self.protocol = await asyncio.wait_for(connecting, connect_timeout)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Upgrade the connection to TLS."""
        hostname = uri if isinstance(uri, str) else uri.hostname
        await asyncio.wait_for(self._connected.start_tls(ssl_context, hostname), connect_timeout)

    def write(self, payload: bytes) -> None:
        """Write at the end of this turn."""
        self._connected.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Write at the end of this turn."""
        self._connected.write(b"".join(payload))

    async def drain(self) -> None:
        """Write now, and wait while the socket is full."""
        await self._connected.drain()

    async def read(self, buffer_size: int) -> bytes:
        """Return whole units, however many there are."""
        return await self._connected.read()

    async def readline(self) -> bytes:
        """Return one unit."""
        return await self._connected.readline()

    def at_eof(self) -> bool:
        """Whether there is nothing more to read."""
        return self._connected.at_eof()

    def close(self) -> None:
        """Write what is pending and close."""
        if self.protocol is not None:
            self.protocol.flush()
            self.protocol.socket.close()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed; abort it if the server does not read."""
        if self.protocol is not None:
            try:
                await asyncio.wait_for(self.protocol.closed.wait(), CLOSE_TIMEOUT)
            except TimeoutError:
                self.protocol.socket.abort()
