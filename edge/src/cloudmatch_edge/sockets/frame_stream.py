"""One WebSocket without I/O: bytes in, frames out.

The sans-I/O `ServerProtocol` of the websockets library judges the protocol. In front of it runs a fast path:
a whole, unfragmented, masked data frame is cut from the stream right here, which is most of what devices send
and costs a fraction. Everything else (control frames, fragments, wrong bits) goes to the protocol, one whole
frame at a time, so that its parser always rests where a frame begins. Of a frame that it will reject
(unmasked, too long) only the header goes. Once it reports that the connection is no longer open, it gets
everything.

Bytes are cut only as far as the caller allows; the rest stays here. What has arrived of a long frame that is
not complete is unmasked and kept in `Unfinished`, as fragments are.
"""

from functools import partial

from websockets.frames import (  # type: ignore[attr-defined]  # apply_mask is undocumented: pinned, and tested
    BINARY,
    CONT,
    TEXT,
    Frame,
    apply_mask,
)
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol

from cloudmatch_bus.contract.memo import Memo
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import INVALID_DATA, POLICY_VIOLATION, TOO_LARGE
from cloudmatch_edge.sockets.unfinished import Unfinished

WHOLE_TEXT, WHOLE_BINARY = 0x81, 0x82  # first byte of a frame that is a whole message
WHOLE = (WHOLE_BINARY, WHOLE_TEXT)
MASKED = 0x80  # bit in the second byte
FRAGMENTS_MAX = 4096  # of one message
LONG = 64 * 1024  # bytes of a frame beyond which it is taken in pieces
CLOSING_BYTES = 1024  # that go to the protocol at once when the connection is closing
CACHED_HEADERS = 4096  # by length


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big")
    return bytes((opcode, 127)) + length.to_bytes(8, "big")


# Headers of unmasked frames that are whole messages, by whether it is text, and by length.
HEADERS = {
    text: Memo[int, bytes](partial(_header, opcode), CACHED_HEADERS)
    for text, opcode in ((True, WHOLE_TEXT), (False, WHOLE_BINARY))
}


class FrameStream:
    """The frames of a connection, after its handshake.

    Call `receive` with the bytes that arrived, then `next_frames`; then send what the protocol has to send.

    Args:
        max_size: bytes of the largest message.
        plain: bytes of the largest fragment or binary frame, and of what is kept as it is; None: the same.
    """

    def __init__(self, protocol: ServerProtocol, max_size: int, plain: int | None = None) -> None:
        self._protocol = protocol
        self._max_size = max_size
        self._plain = plain or max_size
        self._buffer = b""  # bytes that are not cut yet
        self._need = 2  # bytes that the buffer must have before a frame can be cut
        self._fragments: Unfinished | None = None  # of a message
        self._long: Unfinished | None = None  # of a frame
        self._left, self._key = 0, b""  # bytes of that which are still to come, and their mask
        self._text = True  # whether that is text
        # cut so far, control frames and fragments, too
        self.frames_cut = self.bytes_cut = 0
        self.controls_cut = self.messages_cut = 0  # of them pings, pongs and close frames; whole messages
        self.protocol_used = False  # whether the protocol may have something to send; reset by the caller

    @property
    def open(self) -> bool:
        """Whether frames can still be exchanged."""
        return self._protocol.state is OPEN

    @property
    def pending(self) -> bool:
        """Whether a frame waits: there are bytes that `next_frames` has not examined."""
        return len(self._buffer) >= self._need

    @property
    def unfinished(self) -> bool:
        """Whether a part of a message, or of a frame, has arrived, and nothing behind it."""
        begun = self._fragments is not None or self._long is not None or len(self._buffer) > 0
        return begun and not self.pending

    def receive(self, data: bytes) -> None:
        """Append bytes that arrived."""
        self._buffer = self._buffer + data if self._buffer else data

    def next_frames(self, count: int, size: int) -> list[SocketFrame]:
        """Cut up to `count` frames (and up to `size` bytes, exceeded by the last one only); return the
        messages that are complete.

        Once the connection is closing, all goes to the protocol, `CLOSING_BYTES` at a time.
        """
        out: list[SocketFrame] = []
        frames, size_before = count, size
        data, protocol = self._buffer, self._protocol
        have = len(data)
        state = protocol.state
        is_open = state is OPEN
        if state is CLOSED:  # after the end of the stream nothing more is received
            self._buffer = b""
            return out
        if have < self._need and is_open:
            return out
        at = 0
        self._need = 2
        if self._long is not None and count > 0 and size > 0 and is_open:
            at = self._go_on(self._long, data, out)
            size -= at
            count -= self._long is None
            is_open = protocol.state is OPEN
        between = self._fragments is None  # messages: none has begun
        while count > 0 and size > 0 and is_open and have - at >= 2:
            # Where the data begins, how long it is, and where the frame ends.
            first, length = data[at], data[at + 1] - MASKED
            start = at + 6
            if length > 125:
                start += 2 if length == 126 else 8
                if start > have:
                    self._need = start - at
                    break
                length = int.from_bytes(data[at + 2 : start - 4], "big")
            end = start + length
            if length < 0:
                end = at + 2  # not masked: rejected by these two
            elif length > self._plain and (length > self._max_size or first != WHOLE_TEXT):
                if length <= self._max_size:
                    self._fail_too_large(length)
                    is_open = False
                    break
                end = start  # rejected by its header
            elif end > have:
                if length > LONG and between and first in WHOLE:
                    self._long, self._text = Unfinished(self._plain), first == WHOLE_TEXT
                    self._left, self._key = length, data[start - 4 : start]
                    at = start + self._go_on(self._long, data[start:], out)
                    size -= at - start
                    is_open = protocol.state is OPEN
                else:
                    self._need = end - at
                break
            elif between and first in WHOLE:
                payload = apply_mask(data[start:end], data[start - 4 : start])
                at = end
                if first == WHOLE_BINARY:
                    out.append((False, payload))
                elif payload.isascii() or self._utf8(payload):
                    out.append((True, payload))
                else:
                    is_open = False
                count -= 1
                size -= length
                continue
            self._pass_on(data[at:end], out)
            count -= 1
            size -= end - at
            at = end
            is_open = protocol.state is OPEN
            between = self._fragments is None
        if self._long is not None:
            self._need = 1
        self.frames_cut += frames - count
        self.bytes_cut += size_before - size
        if not is_open:
            self._need = 1
            if at < have:
                self._pass_on(data[at : at + CLOSING_BYTES], out)
                at += CLOSING_BYTES
        self.messages_cut += len(out)
        self._buffer = data[at:]
        return out

    def _go_on(self, long: Unfinished, data: bytes, out: list[SocketFrame]) -> int:
        """Take what has arrived of a long frame; return how many bytes that was."""
        data = data[: self._left]
        taken = len(data)
        self._left -= taken
        fits = long.add(apply_mask(data, self._key))
        self._key = self._key[taken % 4 :] + self._key[: taken % 4]
        if not fits:
            self._fail_too_large(self._left)
        elif not self._left:
            self._long = None
            self._complete(long, out)
        return taken

    def _complete(self, message: Unfinished, out: list[SocketFrame]) -> None:
        payload = message.take()
        if not self._text or payload.isascii() or self._utf8(payload):
            out.append((self._text, payload))

    def _fail_too_large(self, length: int) -> None:
        self.protocol_used = True
        self._protocol.fail(TOO_LARGE.code, f"{length} bytes more make it too large")

    def _utf8(self, payload: bytes) -> bool:
        """Check a text; fail the connection as the protocol does if it is not UTF-8."""
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            self.protocol_used = True
            self._protocol.fail(INVALID_DATA.code, f"{error.reason} at position {error.start}")
            return False
        return True

    def _pass_on(self, data: bytes, out: list[SocketFrame]) -> None:
        """Pass bytes to the protocol, and collect the message that they complete."""
        self.protocol_used = True
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)  # after the handshake there are no others
            self._on_frame(event, out)

    def _on_frame(self, frame: Frame, out: list[SocketFrame]) -> None:
        if frame.opcode is TEXT or frame.opcode is BINARY:
            self._text = frame.opcode is TEXT
            self._fragments = Unfinished(self._plain)
        elif frame.opcode is not CONT or self._fragments is None:
            self.controls_cut += 1
            return
        message = self._fragments
        if not message.add(bytes(frame.data)):
            self._fail_too_large(len(frame.data))
        elif frame.fin:
            self._fragments = None
            self._complete(message, out)
        elif message.parts > FRAGMENTS_MAX:
            self._protocol.fail(POLICY_VIOLATION.code, "too many fragments")
