"""One socket of an edge: handshake, bytes in and out, deadlines.

An asyncio protocol over the websockets library's sans-I/O one. It also answers plain HTTP. Once a device is
connected, bytes go through `FrameStream`.
"""

import asyncio
import http
import logging
from collections.abc import Sequence
from typing import Protocol, cast

from prometheus_client import Counter
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from cloudmatch_edge.dialects import v1
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import ABNORMAL, GOING_AWAY, PING_TIMEOUT, CloseCode
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.sockets import pages
from cloudmatch_edge.sockets.frame_stream import HEADERS, FrameStream
from cloudmatch_edge.sockets.liveness import Liveness, taken_by_host

HIGH_WATER = 64 * 1024  # bytes in a socket's write buffer, above which its peer is slowed down
REQUEST_SIZE = 16 * 1024  # bytes of a request head, at most
CLOSE_TIMEOUT = 2.0  # s for the other side to close after us
PING = b"\x89\x00"  # a frame

_connections = Counter("cloudmatch_edge_connections", "Connections of devices ended, by close code", ["code"])


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose the dialect; None is the classic one. Unknown subprotocols were refused before."""
    return next((name for name in offered if name == v1.SUBPROTOCOL), None)


class ListenerPort(Protocol):
    """The listener, as its connections use it."""

    origins: list[Origin] | None

    def opened(self, connection: "Connection") -> float:
        """Add a connection; return how many seconds its request may take, 0 if it must be refused unread."""

    def closed(self, connection: "Connection") -> None:
        """Remove a connection."""

    def flush_soon(self, connection: "Connection") -> None:
        """Call `flush` of a connection by the end of this turn."""

    def respond(self, request: Request) -> pages.Page | Parameters:
        """Return the page to answer a request with, or the parameters of a device to accept."""

    def frame_limit(self, *, speaks_v1: bool) -> int:
        """Bytes of the largest frame of a device."""

    def join(self, who: Parameters, connection: "Connection", *, speaks_v1: bool) -> Device:
        """Add a device and write its first frames."""

    def leave(self, device: Device, code: int) -> None:
        """Remove a device whose connection was closed with `code`."""


class Connection(asyncio.Protocol):
    """One socket: first a request, then a device's WebSocket."""

    transport: asyncio.Transport

    def __init__(self, listener: ListenerPort) -> None:
        self._listener = listener
        self._protocol = ServerProtocol(
            origins=listener.origins, select_subprotocol=_select_subprotocol, logger=_websockets_log
        )
        self._head = b""  # of the request, as far as it has arrived
        self._who: Parameters | None = None
        self._stream: FrameStream | None = None
        self._device: Device | None = None
        # headers and payloads of frames to write at the end of this turn
        self._unwritten: list[bytes] = []
        self.reading = True
        self._deadline: asyncio.TimerHandle | None = None
        self._liveness = Liveness(lambda: taken_by_host(self.transport))

    # -- from asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one, but does not inherit from it
        self.transport.set_write_buffer_limits(HIGH_WATER)
        patience = self._listener.opened(self)
        self._abort_after(patience or CLOSE_TIMEOUT)
        if not patience:
            self._reject(NO_DESCRIPTORS)

    def data_received(self, data: bytes) -> None:
        self._liveness.heard = True
        if self._stream is None:
            self._on_request(data)
        else:
            self._stream.receive(data)
            self.resume_reading()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._send_protocol_data()

    def connection_lost(self, _: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._protocol.receive_eof()
        if self._device is not None:
            ours, theirs = self._protocol.close_sent, self._protocol.close_rcvd
            code = (theirs or ours or ABNORMAL).code
            _connections.labels(str(code)).inc()
            self._listener.leave(self._device, code)
        self._listener.closed(self)

    def pause_writing(self) -> None:
        if self._device is not None:
            self._device.pause_writing()

    def resume_writing(self) -> None:
        if self._device is not None:
            self._device.resume_writing()

    # -- the request

    def _on_request(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._head) < REQUEST_SIZE:
            return
        request_head, rest = (self._head[:end], self._head[end:]) if end >= 4 else (self._head, b"")
        self._head = b""
        if not request_head.startswith(b"GET "):
            self._reject(NOT_A_GET)
            return
        self._protocol.receive_data(request_head)
        events = self._protocol.events_received()
        if not events:
            self._reject(NOT_A_REQUEST)
            return
        assert isinstance(events[0], Request)
        self._protocol.send_response(self._answer(events[0]))
        self._send_protocol_data()
        if self._protocol.state is OPEN:
            self._on_open(rest)

    def _reject(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()

    def _answer(self, request: Request) -> Response:
        """Answer plain HTTP, or accept a device with valid parameters."""
        page = self._listener.respond(request)
        if isinstance(page, Parameters):
            self._who = page
            return self._protocol.accept(request)
        return _response(page)

    def _on_open(self, rest: bytes) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        assert self._who is not None
        speaks_v1 = self._protocol.subprotocol == v1.SUBPROTOCOL
        limit = self._listener.frame_limit(speaks_v1=speaks_v1)
        self._protocol.max_message_size = limit
        self._stream = FrameStream(self._protocol, limit)
        self._device = self._listener.join(self._who, self, speaks_v1=speaks_v1)
        if rest:
            self.data_received(rest)

    # -- from the device (`Socket`)

    def write(self, frames: Sequence[SocketFrame]) -> None:
        """Write frames by the end of this turn; no effect once the connection is closing."""
        out = self._unwritten
        if not out:
            self._listener.flush_soon(self)
        for text, data in frames:
            out.append(HEADERS[text][len(data)])
            out.append(data)

    def flush(self) -> None:
        """Write what has accumulated in this turn."""
        if self._unwritten and self._protocol.state is OPEN and not self.transport.is_closing():
            self.transport.write(b"".join(self._unwritten))
        self._unwritten.clear()

    def resume_reading(self) -> None:
        """Pass frames on as far as the device has credit; stop reading from the socket when it has none."""
        stream, device = self._stream, self._device
        if stream is None or device is None:
            return
        while True:
            count, size = device.credit
            if count <= 0 or size <= 0:
                break
            frames = stream.next_frames(count, size)
            if not frames:
                break
            device.on_frames(frames)
            if not stream.pending:
                break
        if not stream.open:
            stream.next_frames(0, 0)  # the answer to a close frame needs no credit
        self._set_reading(not stream.pending or not stream.open)
        if stream.protocol_used:
            stream.protocol_used = False
            self._send_protocol_data()

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin to close."""
        if self._protocol.state is OPEN:
            self.flush()
            self._protocol.send_close(code.code, reason)
            self._send_protocol_data()

    # -- from the listener

    def go_away(self) -> None:
        """Close because the edge shuts down."""
        code = GOING_AWAY if self._device is None else self._device.dialect.going_away
        self.close(code, "this edge is going away")

    def ping(self) -> None:
        """Send a ping; close the connection if there was no sign of life since several of them."""
        if self._protocol.state is not OPEN or self.transport.is_closing():
            return
        if self._liveness.check() or not self.reading:
            self.transport.write(PING)
        else:
            self.close(PING_TIMEOUT, "no answer to a ping")

    # -- the transport

    def _set_reading(self, wanted: bool) -> None:
        if wanted != self.reading and not self.transport.is_closing():
            self.reading = wanted
            if wanted:
                self._liveness.heard = True  # nothing could be read until now
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _send_protocol_data(self) -> None:
        """Send what the protocol has to send, after the frames written before."""
        writes = self._protocol.data_to_send()
        if not writes:
            return
        if self._unwritten and not self.transport.is_closing():
            self._unwritten, before = [], b"".join(self._unwritten)
            self.transport.write(before)
        for data in writes:
            if self.transport.is_closing():
                return
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()
        if self._protocol.close_expected():
            self._set_reading(True)  # for the answer to our close
            self._abort_after(CLOSE_TIMEOUT)

    def _abort_after(self, seconds: float) -> None:
        if self._deadline is None and self._protocol.state is not CLOSED:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self.transport.abort)


def _response(page: pages.Page) -> Response:
    size = [] if page.status == http.HTTPStatus.NOT_MODIFIED else [("Content-Length", str(len(page.body)))]
    headers = Headers(
        [
            ("Content-Type", page.media_type),
            *size,
            ("Connection", "close"),
            ("X-Content-Type-Options", "nosniff"),
            # Nothing here is secret, and a page opened from disk must be able to read why it was refused.
            ("Access-Control-Allow-Origin", "*"),
            *(page.headers or (("Cache-Control", "no-store"),)),
        ]
    )
    return Response(page.status, http.HTTPStatus(page.status).phrase, headers, page.body)


_websockets_log = logging.getLogger("websockets")
NOT_A_GET = _response(pages.error(405, "method_not_allowed", "only GET is supported")).serialize()
NO_DESCRIPTORS = _response(
    pages.unavailable("edge_full", "no file descriptors are left; try again later, or another edge", 5)
).serialize()
NOT_A_REQUEST = _response(pages.error(400, "bad_request", "not an HTTP request")).serialize()
