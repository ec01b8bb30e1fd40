"""The socket to NATS, with a fast lane for the messages of handlers.

nats-py's client reads and writes through its `Transport`; this is one. Messages without headers that are
for a handler are cut from the stream right here and handled at once, without a queue or a task. Everything
else goes to the library's parser, in whole units: pings, errors, JetStream, answers, messages with headers.
Messages of one subscription keep their order: while the library has one of them, those after it go there,
too.

All that one turn of the event loop publishes is written at once.
"""

import asyncio
import logging
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
MSG, HMSG = b"MH"  # a message begins so; all else is a line
LINE = 1024 * 1024  # bytes of a line, at most
BACKLOG = 4 * 1024 * 1024  # bytes that wait for the library, at most; then the socket is not read
CLOSING = 1.0  # s in which what was written may leave a socket that is being closed


_failures = Counter("cloudmatch_bus_handler_failures", "Messages whose handler failed")


def failed(subject: str) -> None:
    """Tell of the exception at hand: it costs one message, not the connection."""
    log.exception("a handler failed on %s", subject)
    _failures.inc()


def _head(headers: dict[str, str]) -> bytes:
    """Write headers; a value has no line ends."""
    # Joined, not formatted: the library's names are members of an enumeration, which would show as such.
    lines = ("".join((name, ": ", " ".join(value.splitlines()), "\r\n")) for name, value in headers.items())
    return "".join(("NATS/1.0\r\n", *lines, "\r\n")).encode()


class NatsProtocol(asyncio.Protocol):
    """One connection to a server.

    Args:
        handlers: by id of the subscription, as the server writes it.
        limit: bytes that wait for the socket, beyond which it is `full`.
    """

    def __init__(self, handlers: dict[str, Handler], limit: int) -> None:
        self.full = False
        self.ended = asyncio.Event()
        self._handlers = handlers
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []  # to be written by the end of this turn
        self._room = asyncio.Event()  # not full
        self._room.set()
        self._rest = b""  # a unit that is not whole yet
        self._need = 0  # bytes that it must have before looking at it makes sense
        self._passed: list[bytes] = []  # whole units, for the library
        self._backlog = 0  # bytes of them
        self._behind: set[str] = set()  # subscriptions of which the library has messages
        self._reader: asyncio.Future[None] | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast("asyncio.Transport", transport)  # uvloop's is one, but does not say so
        self.socket.set_write_buffer_limits(self._limit)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if len(data) < self._need:
            self._rest = data
            return
        self._rest = data[self._cut(data) :]
        if self._passed:
            self._wake()
            if self._backlog > BACKLOG:
                self.socket.pause_reading()
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self.full = True
        self._room.clear()

    def resume_writing(self) -> None:
        self.full = False
        self._room.set()

    # -- in

    def _cut(self, data: bytes) -> int:
        """Handle what is for handlers and set the rest aside; give where the first unit begins that is not
        whole."""
        find, handlers, behind = data.find, self._handlers, self._behind
        at, have = 0, len(data)
        self._need = 0
        while (line := find(END, at)) >= 0:
            end = line + 2
            first = data[at]
            if first in (MSG, HMSG):
                # MSG <subject> <sid> [reply] <size>, HMSG <subject> <sid> [reply] <size of headers> <size>
                words = data[at:line].decode().split(" ")
                end += int(words[-1]) + 2
                if end > have:
                    self._need = end - at
                    return at
                sid = words[2]
                if first == MSG and sid not in behind and (handler := handlers.get(sid)) is not None:
                    at = end
                    try:
                        handler(words[1], words[3] if len(words) == 5 else "", data[line + 2 : end - 2], None)
                    except Exception:  # noqa: BLE001  # it is told
                        failed(words[1])
                    continue
                behind.add(sid)
            self._passed.append(data[at:end])
            self._backlog += end - at
            at = end
        if have - at > LINE:
            self.socket.abort()
        return at

    async def read(self) -> bytes:
        """Give what is for the library; b"" at the end of the connection."""
        if not self._passed:
            self._behind.clear()
            await self._some()
        data = b"".join(self._passed)
        self._passed.clear()
        self._backlog = 0
        self._go_on()
        return data

    async def readline(self) -> bytes:
        """Give the next unit; b"" at the end of the connection."""
        if not self._passed:
            await self._some()
        if not self._passed:
            return b""
        unit = self._passed.pop(0)
        self._backlog -= len(unit)
        return unit

    def at_eof(self) -> bool:
        """Whether nothing more will come."""
        return self.ended.is_set() and not self._passed

    async def _some(self) -> None:
        if not self.ended.is_set():
            self._reader = self._loop.create_future()
            await self._reader

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _go_on(self) -> None:
        if not self.socket.is_closing() and not self.socket.is_reading():
            self.socket.resume_reading()

    # -- out

    def publish(self, subject: str, payload: bytes, reply: str, headers: Headers) -> None:
        """Write a message by the end of this turn."""
        if not self._out:
            self._loop.call_soon(self.flush)
        if headers is None:
            self._out += (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload, END)
        else:
            head = _head(headers)
            size = len(head) + len(payload)
            self._out += (f"HPUB {subject} {reply} {len(head)} {size}\r\n".encode(), head, payload, END)

    def write(self, data: bytes) -> None:
        """Write by the end of this turn."""
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)

    def flush(self) -> None:
        """Write now; nothing happens once the connection is closing."""
        if self._out:
            if not self.socket.is_closing():
                self.socket.write(b"".join(self._out))
            self._out.clear()

    async def drain(self) -> None:
        """Write, and wait while the socket is full.

        Raises:
            ConnectionResetError: the connection is gone.
        """
        self.flush()
        await self._room.wait()
        if self.ended.is_set():
            raise ConnectionResetError("the connection to NATS is gone")

    async def secure(self, context: ssl.SSLContext, hostname: str | None) -> None:
        """Go on by TLS."""
        transport = await self._loop.start_tls(self.socket, self, context, server_hostname=hostname)
        assert transport is not None
        self.connection_made(transport)


class FastTransport(Transport):
    """The client's way to the servers: one connection after the other. Set it before the client connects.

    Args: as for `NatsProtocol`.
    """

    def __init__(self, handlers: dict[str, Handler], limit: int) -> None:
        self._make = lambda: NatsProtocol(handlers, limit)
        self.protocol: NatsProtocol | None = None  # the newest connection

    def __bool__(self) -> bool:
        return True

    @property
    def _protocol(self) -> NatsProtocol:
        if self.protocol is None:
            raise ConnectionError("not connected to NATS yet")
        return self.protocol

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect to a server; it speaks first."""
        assert uri.hostname is not None
        assert uri.port is not None  # the client sees to both
        connecting = asyncio.get_running_loop().create_connection(self._make, uri.hostname, uri.port)
        _, self.protocol = await asyncio.wait_for(connecting, connect_timeout)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Go on by TLS with the server that is connected to."""
        hostname = uri if isinstance(uri, str) else uri.hostname
        await asyncio.wait_for(self._protocol.secure(ssl_context, hostname), connect_timeout)

    def write(self, payload: bytes) -> None:
        """Write by the end of this turn."""
        self._protocol.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Write by the end of this turn."""
        self._protocol.write(b"".join(payload))

    async def drain(self) -> None:
        """Write, and wait while the socket is full."""
        await self._protocol.drain()

    async def read(self, buffer_size: int) -> bytes:
        """Give whole units, however many there are."""
        return await self._protocol.read()

    async def readline(self) -> bytes:
        """Give one."""
        return await self._protocol.readline()

    def at_eof(self) -> bool:
        """Whether nothing more will come."""
        return self._protocol.at_eof()

    def close(self) -> None:
        """Close, once what was written has left."""
        if self.protocol is not None:
            self.protocol.flush()
            self.protocol.socket.close()

    async def wait_closed(self) -> None:
        """Wait until it has, but not for a server that does not read."""
        if self.protocol is not None:
            try:
                await asyncio.wait_for(self.protocol.ended.wait(), CLOSING)
            except TimeoutError:
                self.protocol.socket.abort()
