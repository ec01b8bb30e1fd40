"""One socket of an edge: handshake, bytes in, bytes out, deadlines.

An asyncio protocol over the websockets library's sans-I/O one. It answers plain HTTP too. Payloads go by
`stream`.
"""

import asyncio
import http
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from prometheus_client import Counter
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects import v1
from cloudmatch_edge.dialects.close_codes import ABNORMAL, GOING_AWAY, PING_TIMEOUT
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.sockets import pages
from cloudmatch_edge.sockets.frame_stream import HEADS, Stream

if TYPE_CHECKING:
    from cloudmatch_edge.sockets.listener import Listener

HIGH_WATER = 64 * 1024  # bytes in a socket's write buffer before its peer is slowed down
REQUEST_SIZE = 16 * 1024  # bytes of a request's head, at most
OPEN_TIMEOUT = 10.0  # s for a request to be complete
CLOSE_TIMEOUT = 2.0  # s for the other side to close after we did

_connections = Counter("cloudmatch_edge_connections", "Connections of devices, by how they ended", ["code"])


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose the dialect; None is that of 2019. What cannot be spoken was refused before."""
    return next((name for name in offered if name == v1.SUBPROTOCOL), None)


class Connection(asyncio.Protocol):
    """One socket: first a request, then a device's WebSocket."""

    transport: asyncio.Transport

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._protocol = ServerProtocol(
            origins=listener.origins, select_subprotocol=_select_subprotocol, logger=_quiet
        )
        self._head = b""  # of the request, as far as it came
        self._who: Parameters | None = None
        self._stream: Stream | None = None
        self._device: Device | None = None
        # frames to write at the end of this turn
        self._out: list[bytes] = []
        self.reading = True
        self._deadline: asyncio.TimerHandle | None = None
        self.heard = True  # since the last heartbeat

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one, but does not say so
        self.transport.set_write_buffer_limits(HIGH_WATER)
        self._end_within(OPEN_TIMEOUT)
        self._listener.made(self)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._stream is None:
            self._request(data)
        else:
            self._stream.receive(data)
            self.go_on()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._ship()

    def connection_lost(self, _: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._protocol.receive_eof()
        if self._device is not None:
            code = self._protocol.close_code or ABNORMAL.code
            _connections.labels(str(code)).inc()
            self._listener.left(self._device, code)
        self._listener.lost(self)

    def pause_writing(self) -> None:
        if self._device is not None:
            self._device.clog()

    def resume_writing(self) -> None:
        if self._device is not None:
            self._device.unclog()

    # -- the request

    def _request(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._head) < REQUEST_SIZE:
            return
        request_head, rest = (self._head[:end], self._head[end:]) if end >= 4 else (self._head, b"")
        self._head = b""
        if not request_head.startswith(b"GET "):
            self._refuse(NOT_A_GET)
            return
        self._protocol.receive_data(request_head)
        events = self._protocol.events_received()
        if not events:
            self._refuse(NOT_A_REQUEST)
            return
        assert isinstance(events[0], Request)
        self._protocol.send_response(self._answer(events[0]))
        self._ship()
        if self._protocol.state is OPEN:
            self._opened(rest)

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()

    def _answer(self, request: Request) -> Response:
        """Answer plain HTTP, or accept a device whose parameters are good."""
        page = self._listener.page(request)
        if isinstance(page, Parameters):
            self._who = page
            return self._protocol.accept(request)
        return _response(page)

    def _opened(self, rest: bytes) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        assert self._who is not None
        speaks_v1 = self._protocol.subprotocol == v1.SUBPROTOCOL
        limit = self._listener.frame_limit(speaks_v1=speaks_v1)
        self._protocol.max_message_size = limit
        self._stream = Stream(self._protocol, limit)
        self._device = self._listener.joined(self._who, self, speaks_v1=speaks_v1)
        if rest:
            self.data_received(rest)

    # -- the device's side

    def send(self, frames: Sequence[Payload]) -> None:
        """Write frames by the end of this turn; nothing happens once the connection closes."""
        out = self._out
        if not out:
            self._listener.flush_soon(self)
        for text, data in frames:
            out.append(HEADS[text][len(data)])
            out.append(data)

    def flush(self) -> None:
        """Write what was to be written by the end of this turn."""
        if self._out and self._protocol.state is OPEN and not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def go_on(self) -> None:
        """Take payloads as far as the device has room; read no more from the socket when it has none."""
        stream, device = self._stream, self._device
        if stream is None or device is None:
            return
        while True:
            frames, size = device.room
            if frames <= 0 or size <= 0:
                break
            payloads = stream.take(frames, size)
            if not payloads:
                break
            device.take(payloads)
            if not stream.pending:
                break
        if not stream.open:
            stream.take(0, 0)  # the other side's answer to a close needs no room
        self._read(not stream.pending or not stream.open)
        if stream.judged:
            stream.judged = False
            self._ship()

    def end(self, code: int, reason: str) -> None:
        """Begin to close."""
        if self._protocol.state is OPEN:
            self.flush()
            self._protocol.send_close(code, reason)
            self._ship()

    def go_away(self) -> None:
        """Close because the edge ends."""
        code = GOING_AWAY.code if self._device is None else self._device.dialect.going_away
        self.end(code, "this edge is going away")

    def heartbeat(self) -> None:
        """Ping; end a connection that has been silent since the last one."""
        if self._protocol.state is not OPEN or not self.reading:
            return
        if not self.heard:
            self.end(PING_TIMEOUT.code, "no sign of life")
            return
        self.heard = False
        self._protocol.send_ping(b"")
        self._ship()

    # -- both

    def _read(self, wanted: bool) -> None:
        if wanted != self.reading and not self.transport.is_closing():
            self.reading = wanted
            if wanted:
                self.heard = True  # it could not be heard until now
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _ship(self) -> None:
        """Send what the protocol wants sent, after what was written before."""
        writes = self._protocol.data_to_send()
        if not writes:
            return
        if self._out and not self.transport.is_closing():
            self._out, before = [], b"".join(self._out)
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
            self._read(True)  # for the answer to our close
            self._end_within(CLOSE_TIMEOUT)

    def _end_within(self, seconds: float) -> None:
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
            # Nothing here is secret, and a page that was opened from disk wants to read why it was refused.
            ("Access-Control-Allow-Origin", "*"),
            *(page.headers or (("Cache-Control", "no-store"),)),
        ]
    )
    return Response(page.status, http.HTTPStatus(page.status).phrase, headers, page.body)


_quiet = logging.getLogger("websockets")
NOT_A_GET = _response(pages.error(405, "method_not_allowed", "only GET is answered here")).serialize()
NOT_A_REQUEST = _response(pages.error(400, "bad_request", "this is no HTTP request")).serialize()
