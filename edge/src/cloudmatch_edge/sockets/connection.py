"""One socket of an edge: handshake, bytes in and out, deadlines.

An asyncio protocol over the websockets library's sans-I/O one. It also answers plain HTTP: one request, and
what follows that is dropped. Once a device is connected, bytes go through `FrameStream`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from prometheus_client import Counter
from websockets.exceptions import InvalidHeader, InvalidUpgrade
from websockets.http11 import Request
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cloudmatch_bus.process.clock import monotonic
from cloudmatch_edge.admission import bearer
from cloudmatch_edge.admission.permit import Admitted
from cloudmatch_edge.dialects import v1
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import (
    ABNORMAL,
    CLOSE_CODES,
    GOING_AWAY,
    PING_TIMEOUT,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    CloseCode,
)
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.silence import Silence
from cloudmatch_edge.sockets import pages, request_head
from cloudmatch_edge.sockets.arrival import abandoned, waited
from cloudmatch_edge.sockets.client_address import Address, peer_address
from cloudmatch_edge.sockets.frame_stream import FrameStream
from cloudmatch_edge.sockets.liveness import Liveness, silence, taken_by_host
from cloudmatch_edge.sockets.pace import Pace
from cloudmatch_edge.sockets.ports import ListenerPort
from cloudmatch_edge.sockets.writer import Writer

# That one turn of the event loop takes of a socket, at most: control frames and fragments count, too. The
# last frame may exceed the bytes.
TURN_FRAMES, TURN_BYTES = 128, 64 * 1024
READ = memoryview(bytearray(TURN_BYTES))  # what was read last, of any socket
CLOSE_TIMEOUT = 2.0  # s for the other side to close after us
PING = b"\x89\x00"  # a frame
KNOWN_CODES = {each.code for each in CLOSE_CODES}  # a client may send any other
ANY_REQUEST = b"GET / HTTP/1.1\r\n\r\n"  # for the parser of the library, which expects frames behind it

_abandoned = Counter(
    "cloudmatch_edge_connections_abandoned", "Devices that had given up before their request was read"
)
_connections = Counter("cloudmatch_edge_connections", "Connections of devices ended, by close code", ["code"])


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose the dialect; None is the classic one. Unknown subprotocols were refused before."""
    return next((name for name in offered if name == v1.SUBPROTOCOL), None)


class Connection(asyncio.BufferedProtocol):
    """One socket: first a request, then a device's WebSocket."""

    transport: asyncio.Transport
    peer: Address | None  # the other side, perhaps a proxy; None: it has no IP address
    # writes frames by the end of this turn; no effect once the connection is closing
    write: Callable[[Sequence[SocketFrame]], None]
    _writer: Writer

    def __init__(self, listener: ListenerPort["Connection"]) -> None:
        self._listener = listener
        self._protocol = ServerProtocol(select_subprotocol=_select_subprotocol, logger=_websockets_log)
        # of the request, as far as it has arrived; None: nothing more is expected before its answer
        self._head: bytes | None = b""
        self._stream: FrameStream | None = None
        self._pace: Pace | None = None
        self._message = Silence()  # of an unfinished message
        self._device: Device | None = None
        self.reading = True
        self._resting = False  # frames wait for the next turn
        self._deadline: asyncio.TimerHandle | None = None
        self._liveness = Liveness()

    # -- from asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one, but does not inherit from it
        self._writer = Writer(
            self.transport, self._listener.flush_soon, self._listener.patience, self._on_full, self._give_up
        )
        self.write = self._writer.add
        self.peer = peer_address(transport.get_extra_info("peername"))
        patience = self._listener.opened(self)
        if isinstance(patience, bytes):
            self._head = None
            self._abort_after(CLOSE_TIMEOUT)
            self.transport.write(patience)
            self.transport.close()
        else:
            self._abort_after(patience)

    def get_buffer(self, _: int) -> memoryview:
        return READ

    def buffer_updated(self, size: int) -> None:
        self.data_received(bytes(READ[:size]))
        if size == len(READ) and self.reading and self._device is not None:
            self._rest()  # there is more
            self._set_reading(False)

    def data_received(self, data: bytes) -> None:
        """Take bytes that arrived."""
        self._liveness.heard = True
        if self._stream is None:
            self._on_request(data)
        else:
            self._stream.receive(data)
            self.resume_reading()

    def eof_received(self) -> None:
        if self._device is None:
            return  # the transport closes, once an answer is written
        self._note_silence()
        self._protocol.receive_eof()
        self._send_protocol_data()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._note_silence()
        self._stop_deadline()
        self._writer.stop()
        self._protocol.receive_eof()
        if self._device is None:
            self._listener.closed(self)
        else:
            self._listener.in_turn(partial(self._leave, self._device))

    def _leave(self, device: Device) -> None:
        ours, theirs = self._protocol.close_sent, self._protocol.close_rcvd
        code = (theirs or ours or ABNORMAL).code
        _connections.labels(str(code) if code in KNOWN_CODES else "other").inc()
        self._listener.leave(device, code)
        self._listener.closed(self)

    def _note_silence(self) -> None:
        """Report a device's connection that the other side ended without a farewell."""
        if self._device is not None and self._protocol.state is OPEN:
            self._listener.broke_off(silence(self.transport))

    def pause_writing(self) -> None:
        if self._device is not None:
            self._writer.on_blocked()

    def resume_writing(self) -> None:
        if self._device is not None:
            self._writer.on_drained()
            if self.writable:
                self._device.on_drained()
            self.resume_reading()

    # -- the request

    def _on_request(self, data: bytes) -> None:
        if self._head is None:
            return
        self._head += data
        try:
            found = self._listener.parse(self._head, self)
        except request_head.RefusedError as refused:
            self._head = None
            self._answer(refused.page)
            return
        if found is not None:
            self._head = None
            self._stop_deadline()  # the client has done its part: now it waits for its turn
            self._listener.in_turn(partial(self._respond, *found))

    def _respond(self, request: Request, rest: bytes) -> None:
        """Answer a request."""
        if self.transport.is_closing():
            return
        page = self._listener.respond(request, self)
        if isinstance(page, Admitted):
            refusal = self._accept(request)
            if refusal is None:
                self._on_open(page, rest)
                return
            page = refusal
        self._answer(page, with_body=request.method != "HEAD")

    def _answer(self, page: pages.Page, *, with_body: bool = True) -> None:
        """Answer by plain HTTP; close once the other side has read that and closed."""
        self._abort_after(CLOSE_TIMEOUT)
        self.transport.write(pages.serialize(page, with_body=with_body))
        if self.transport.can_write_eof():
            self.transport.write_eof()  # to close now, with bytes unread, might reset the answer
        else:
            self.transport.close()

    def _accept(self, request: Request) -> pages.Page | None:
        """Accept a device; None, or the page that says why this is no handshake of a WebSocket."""
        self._protocol.receive_data(ANY_REQUEST)
        self._protocol.events_received()
        response = self._protocol.accept(Request(request.path, request.headers))
        failure = self._protocol.handshake_exc
        if isinstance(failure, InvalidUpgrade) or (
            isinstance(failure, InvalidHeader) and failure.name == "Sec-WebSocket-Version"
        ):
            return pages.upgrade_required(bearer.redacted(str(failure)))
        if failure is not None:
            return pages.error(400, "bad_handshake", bearer.redacted(str(failure)))
        if request.method != "GET" or request.protocol == "HTTP/1.0":
            return pages.upgrade_required("that begins with a GET of HTTP/1.1")
        if request_head.has_body(request):
            return pages.error(400, "bad_handshake", "the handshake of a WebSocket has no body")
        self._protocol.send_response(response)
        self._send_protocol_data()
        self._writer.flush()
        return None

    def _on_open(self, admitted: Admitted, rest: bytes) -> None:
        self._stop_deadline()
        if abandoned(self.transport):
            _abandoned.inc()
            self.transport.abort()
            return
        speaks_v1 = self._protocol.subprotocol == v1.SUBPROTOCOL
        limit, plain = self._listener.frame_limits(speaks_v1=speaks_v1)
        self._protocol.max_message_size = limit
        self._stream = FrameStream(self._protocol, limit, plain)
        self._pace = self._listener.pace(admitted.permit)
        asked = waited(self.transport)
        self._device = self._listener.join(admitted, self, speaks_v1=speaks_v1, waited=asked)
        if rest:
            self.data_received(rest)

    # -- from the device (`Socket`)

    @property
    def writable(self) -> bool:
        """Whether what is written counts as taken: the connection is open, and its socket not full."""
        return not (self._writer.full or self._writer.closing)

    @property
    def overfull(self) -> bool:
        """Whether no payload may be written."""
        return self._writer.overfull

    def host_took_all(self) -> bool:
        """Whether the device's host has acknowledged (TCP) all that was written."""
        gone = self.transport.is_closing()
        return not gone and self._writer.empty and not taken_by_host(self.transport)[1]

    def resume_reading(self) -> None:
        """Pass frames on as far as the device has credit, this turn has room and the socket takes answers;
        read from the socket only if none waits."""
        stream, device = self._stream, self._device
        writer = self._writer
        if stream is None or device is None or self._resting or writer.full:
            return
        protocol, pace, controls = self._protocol, self._pace, stream.controls_cut
        began_frames, began_bytes = stream.frames_cut, stream.bytes_cut
        frames_left, bytes_left = TURN_FRAMES, TURN_BYTES
        pending = stream.pending
        while pending:
            count, size = device.credit
            if count <= 0 or size <= 0 or protocol.state is not OPEN or writer.full:
                break
            if frames_left <= 0 or bytes_left <= 0:
                self._rest()
                break
            if pace is not None:
                paced_count, paced_size = pace.credit(monotonic())
                count, size = min(count, paced_count), min(size, paced_size)
                if count <= 0 or size <= 0:
                    self._rest(pace.wait())
                    break
            # `min` would be dearer, and every payload comes here
            count = count if count < frames_left else frames_left  # noqa: FURB136
            size = size if size < bytes_left else bytes_left  # noqa: FURB136
            if frames := stream.next_frames(count, size):
                device.on_frames(frames)
            pending = stream.pending
            if pending or pace is not None:
                before = frames_left, bytes_left
                frames_left = TURN_FRAMES - stream.frames_cut + began_frames
                bytes_left = TURN_BYTES - stream.bytes_cut + began_bytes
                if pace is not None:
                    pace.use(before[0] - frames_left, before[1] - bytes_left)
        if protocol.state is not OPEN:
            stream.next_frames(0, 0)  # the answer to a close frame needs no credit
            if pending := stream.pending:
                self._rest()
        wanted = not (pending or writer.full or self._resting)
        if wanted != self.reading:
            self._set_reading(wanted)
        if stream.protocol_used:
            stream.protocol_used = False
            if stream.controls_cut > controls and stream.open:
                device.on_controls(stream.controls_cut - controls)
            self._send_protocol_data()

    def _rest(self, seconds: float = 0.0) -> None:
        """Go on with what has arrived in a later turn."""
        if not self._resting:
            self._resting = True
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._go_on)
            else:
                self._listener.in_turn.later(self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if not self.transport.is_closing():
            self.resume_reading()

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin to close."""
        if self._protocol.state is OPEN:
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
        self._check_message()
        taken, waiting = taken_by_host(self.transport)
        unread = not self.reading and not self._writer.full  # its pongs wait: nobody can tell
        if self._liveness.check(taken, waiting=waiting) or unread:
            self.transport.write(PING)
        else:
            self.close(PING_TIMEOUT, "no answer to a ping")

    def _check_message(self) -> None:
        """Close the connection if a message takes too long, though it is read."""
        stream, longest = self._stream, self._listener.message_timeout
        if stream is not None and longest:
            unfinished = stream.messages_cut if stream.unfinished and self.reading else None
            if self._message.seconds(unfinished, monotonic()) >= longest:
                self.close(POLICY_VIOLATION, "a message took too long")

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
        if self._protocol.state is OPEN:
            self._writer.add_bytes(b"".join(writes))
            return
        self._writer.end(b"".join(writes))
        if not writes[-1] and not self.transport.is_closing():  # the end
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()
        if self._protocol.close_expected():
            self._abort_after(CLOSE_TIMEOUT)
            self.resume_reading()  # for the answer to our close

    def _on_full(self) -> None:
        self._set_reading(False)

    def _give_up(self) -> None:
        self.close(TRY_AGAIN_LATER, "this device takes nothing of what waits for it")

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort_after(self, seconds: float) -> None:
        if self._deadline is None and self._protocol.state is not CLOSED:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self.transport.abort)


_websockets_log = logging.getLogger("websockets")
