"""Bytes of a WebSocket in, frames out: the fast path against the library alone."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.sockets.frame_stream import FRAGMENTS_MAX, HEADERS, FrameStream, apply_mask

MAX_SIZE = 70_000
PLENTY = 1 << 30
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def opened() -> ServerProtocol:
    """The library's protocol, after the handshake."""
    protocol = ServerProtocol(max_size=MAX_SIZE)
    protocol.receive_data(REQUEST)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    assert protocol.state is OPEN
    return protocol


def frame(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """Make a frame as a client does, or as none should. `length`: what the header claims."""
    n = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    start = bytes((fin << 7 | rsv << 4 | opcode,))
    if n < 126:
        start += bytes((bit | n,))
    elif n < 65536:
        start += bytes((bit | 126,)) + struct.pack("!H", n)
    else:
        start += bytes((bit | 127,)) + struct.pack("!Q", n)
    if not masked:
        return start + payload
    key = b"\x12\x34\xab\xcd"
    return start + key + bytes(c ^ key[i % 4] for i, c in enumerate(payload))


def by_the_library(data: bytes) -> tuple[list[SocketFrame], bytes, bool]:
    """What the library alone makes of bytes: messages, answer, whether it stays open.

    It checks neither UTF-8 nor the number of fragments; the reference adds UTF-8, message by message.
    """
    protocol = opened()
    out: list[SocketFrame] = []
    parts: list[bytes] = []
    text = True
    for at in range(len(data)):
        if protocol.state is not OPEN:
            break
        protocol.receive_data(data[at : at + 1])
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (TEXT, BINARY):
                parts, text = [], event.opcode is TEXT
            elif event.opcode is not CONT:
                continue
            parts.append(bytes(event.data))
            if event.fin:
                payload = b"".join(parts)
                if text:
                    try:
                        payload.decode()
                    except UnicodeDecodeError as error:
                        protocol.fail(1007, f"{error.reason} at position {error.start}")
                        continue
                out.append((text, payload))
    return out, b"".join(protocol.data_to_send()), protocol.state is OPEN


def by_the_stream(chunks: list[bytes], frames: int = PLENTY) -> tuple[list[SocketFrame], bytes, bool]:
    """What the stream makes of bytes that come in these chunks, with credit for so many frames at a time."""
    protocol = opened()
    stream = FrameStream(protocol, MAX_SIZE)
    out: list[SocketFrame] = []
    for chunk in chunks:
        stream.receive(chunk)
        while stream.pending:
            taken = stream.next_frames(frames, PLENTY)
            assert len(taken) <= frames
            out += taken
    return out, b"".join(protocol.data_to_send()), stream.open


def cut(data: bytes, seed: int) -> list[bytes]:
    """Cut bytes into chunks of random sizes."""
    rng = random.Random(seed)  # noqa: S311  # repeatable, no secret
    chunks = []
    while data:
        n = rng.choice((1, 2, 3, 7, 50, 4096))
        chunks.append(data[:n])
        data = data[n:]
    return chunks


texts = st.text(max_size=20).map(str.encode)
anything = st.binary(max_size=20)
frames = st.one_of(
    st.builds(frame, st.just(1), texts),
    st.builds(frame, st.just(2), anything),
    st.builds(frame, st.sampled_from([1, 2]), st.integers(100, 300).map(lambda n: b"x" * n)),
    st.builds(frame, st.sampled_from([0, 1, 2]), st.one_of(texts, anything), fin=st.booleans()),
    st.builds(frame, st.sampled_from([9, 10]), anything),
    st.builds(frame, st.just(8), st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x03"])),
    st.builds(
        frame,
        st.integers(0, 15),
        anything,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 4]),
        masked=st.sampled_from([True, True, True, False]),
    ),
    st.builds(
        frame,
        st.sampled_from([1, 2, 9]),
        st.just(b""),
        length=st.sampled_from([126, 70_001, 1 << 40, 1 << 63]),
    ),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(frames, max_size=12), st.integers(0, 1 << 30), st.sampled_from([1, 2, 3, PLENTY]))
def test_any_frames_in_any_pieces_are_read_as_the_library_reads_them(
    sent: list[bytes], seed: int, credit: int
) -> None:
    data = b"".join(sent)
    assert by_the_stream([*cut(data, seed), PADDING], credit) == by_the_library(data + PADDING)


# Completes any frame that has begun; begins one that is rejected. The library rejects some frames before they
# are complete; the fast path passes complete ones on.
PADDING = bytes(MAX_SIZE + 14)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 30))
def test_random_bytes_are_read_as_the_library_reads_them(data: bytes, seed: int) -> None:
    assert by_the_stream([*cut(data, seed), PADDING]) == by_the_library(data + PADDING)


CASES = {
    "text, binary, empty": (frame(1, b"hi") + frame(2, b"\xff\x00") + frame(1, b""), None),
    "a text of 65,535 and of 65,536 bytes": (frame(1, b"x" * 65535) + frame(1, b"y" * 65536), None),
    "the largest message, and one byte more": (
        frame(2, b"x" * MAX_SIZE) + frame(2, b"", length=MAX_SIZE + 1),
        1009,
    ),
    "fragments with a ping between": (
        frame(1, b"a", fin=False)
        + frame(9, b"pp")
        + frame(0, "é".encode()[:1], fin=False)
        + frame(0, "é".encode()[1:]),
        None,
    ),
    "fragments that are too large together": (
        frame(2, b"x" * 40_000, fin=False) + frame(0, b"x" * 40_000),
        1009,
    ),
    "good text, then bad UTF-8, then more": (frame(1, b"ok") + frame(1, b"\xc3(") + frame(1, b"never"), 1007),
    "a code point split over two messages": (frame(1, b"\xc3") + frame(1, b"\xa9"), 1007),
    "bad UTF-8 over fragments": (frame(1, b"a", fin=False) + frame(0, b"\xff"), 1007),
    "a frame that is not masked": (frame(1, b"hi", masked=False), 1002),
    "a reserved bit": (frame(1, b"hi", rsv=4), 1002),
    "an unknown opcode": (frame(3, b"hi"), 1002),
    "a continuation of nothing": (frame(0, b"hi"), 1002),
    "a text inside a fragmented message": (frame(1, b"hi", fin=False) + frame(1, b"no"), 1002),
    "a fragmented ping": (frame(9, b"hi", fin=False), 1002),
    "a ping of 126 bytes": (frame(9, b"x" * 126), 1002),
    "a close, and data after it": (frame(1, b"last") + frame(8, b"\x03\xe8bye") + frame(1, b"never"), 1000),
    "a close code that must not be sent": (frame(8, b"\x03\xed"), 1002),
    "a close of one byte": (frame(8, b"\x03"), 1002),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("credit", [1, PLENTY])
def test_case(case: str, credit: int) -> None:
    data, code = CASES[case]
    expected = by_the_library(data)
    assert by_the_stream([data], credit) == expected
    assert by_the_stream(cut(data, 1), credit) == expected
    _, answer, still_open = expected
    assert still_open == (code is None)
    if code is not None:
        assert struct.pack("!H", code) in answer


def test_frames_beyond_the_credit_stay() -> None:
    stream = FrameStream(opened(), MAX_SIZE)
    stream.receive(b"".join(frame(1, b"%d" % i) for i in range(10)))
    assert [data for _, data in stream.next_frames(4, PLENTY)] == [b"0", b"1", b"2", b"3"]
    assert stream.pending
    assert stream.next_frames(0, PLENTY) == []
    assert [data for _, data in stream.next_frames(PLENTY, 3)] == [b"4", b"5", b"6"]
    assert [data for _, data in stream.next_frames(PLENTY, PLENTY)] == [b"7", b"8", b"9"]
    assert not stream.pending


def test_control_frames_and_fragments_count_as_frames_and_bytes() -> None:
    stream = FrameStream(opened(), MAX_SIZE)
    ping, fragment = frame(9, b"xy"), frame(1, b"x", fin=False)
    stream.receive(3 * ping + fragment + ping + frame(1, b"y"))
    assert stream.next_frames(2, PLENTY) == []
    assert (stream.frames_cut, stream.bytes_cut) == (2, 2 * len(ping))
    assert stream.next_frames(PLENTY, len(ping) + 1) == []
    assert stream.frames_cut == 4
    assert stream.pending
    assert stream.next_frames(1, PLENTY) == []
    assert not stream.next_frames(1, PLENTY), "inside a message that has begun: the library rejects it"
    assert not stream.open


def test_frames_beyond_the_credit_are_gone_once_the_connection_is_lost() -> None:
    protocol = opened()
    stream = FrameStream(protocol, MAX_SIZE)
    stream.receive(frame(1, b"a") + frame(1, b"b"))
    assert len(stream.next_frames(1, PLENTY)) == 1
    protocol.receive_eof()
    assert stream.next_frames(PLENTY, PLENTY) == []
    assert not stream.pending


def test_the_answer_to_a_close_is_read_behind_frames_beyond_the_credit() -> None:
    protocol = opened()
    stream = FrameStream(protocol, MAX_SIZE)
    stream.receive(frame(1, b"too much") + frame(8, b"")[:3])
    assert stream.next_frames(0, 0) == []
    protocol.send_close(1013, "")
    stream.next_frames(0, 0)
    assert protocol.close_expected()
    stream.receive(frame(8, b"")[3:])
    stream.next_frames(0, 0)
    assert protocol.data_to_send()[-1] == b"", "it ends the connection"


def test_a_half_frame_is_not_pending() -> None:
    stream = FrameStream(opened(), MAX_SIZE)
    whole = frame(1, b"x" * 1000)
    stream.receive(whole[:500])
    assert stream.next_frames(PLENTY, PLENTY) == []
    assert not stream.pending
    stream.receive(whole[500:])
    assert stream.pending
    assert stream.next_frames(PLENTY, PLENTY) == [(True, b"x" * 1000)]


def test_too_many_fragments_are_rejected() -> None:
    protocol = opened()
    stream = FrameStream(protocol, MAX_SIZE)
    stream.receive(frame(1, b"a", fin=False) + frame(0, b"a", fin=False) * FRAGMENTS_MAX)
    assert stream.next_frames(PLENTY, PLENTY) == []
    assert not stream.open
    assert struct.pack("!H", 1008) in b"".join(protocol.data_to_send())


PLAIN = 100_000


def long_stream() -> FrameStream:
    """A stream in which only texts may be longer than `PLAIN`."""
    protocol = opened()
    protocol.max_message_size = 6 * PLAIN
    return FrameStream(protocol, 6 * PLAIN, PLAIN)


@pytest.mark.parametrize("fragments", [1, 10])
def test_a_long_text_is_kept_deflated_until_it_is_complete(fragments: int) -> None:
    stream, payload = long_stream(), b"\\u0001" * PLAIN
    size = len(payload) // fragments
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    data = b"".join(
        frame(0 if i else 1, part, fin=i == len(parts) - 1) + frame(9, b"") for i, part in enumerate(parts)
    )
    out: list[SocketFrame] = []
    for at in range(0, len(data), 10_001):
        stream.receive(data[at : at + 10_001])
        while stream.pending:
            out += stream.next_frames(PLENTY, PLENTY)
        kept = stream._fragments or stream._long
        assert len(stream._buffer) + (len(kept._data) if kept else 0) <= PLAIN + 20_000
    assert out == [(True, payload)]
    assert stream.open


@pytest.mark.parametrize(
    ("opcode", "fin", "size"), [(2, True, PLAIN + 1), (1, False, PLAIN + 1), (1, True, 6 * PLAIN + 1)]
)
def test_what_is_too_large_is_refused_by_its_header(opcode: int, fin: bool, size: int) -> None:
    stream = long_stream()
    stream.receive(frame(opcode, b"", fin=fin, length=size))
    assert stream.next_frames(PLENTY, PLENTY) == []
    assert not stream.open
    assert stream._protocol.close_sent is not None
    assert stream._protocol.close_sent.code == 1009


@pytest.mark.parametrize("fragments", [1, 10])
def test_noise_is_refused_before_it_is_complete(fragments: int) -> None:
    stream, noise = long_stream(), random.Random(5).randbytes(5 * PLAIN)  # noqa: S311  # repeatable, no secret
    size, sent = len(noise) // fragments, 0
    data = b"".join(frame(0 if i else 1, noise[i : i + size], fin=False) for i in range(0, len(noise), size))
    data = frame(1, noise) if fragments == 1 else data
    while stream.open:
        stream.receive(data[sent : sent + 10_000])
        stream.next_frames(PLENTY, PLENTY)
        sent += 10_000
    assert 2 * PLAIN - 10_000 < sent < 2 * PLAIN + 80_000
    assert stream._protocol.close_sent is not None
    assert stream._protocol.close_sent.code == 1009


@given(st.booleans(), st.sampled_from([0, 1, 125, 126, 65535, 65536, 70_000]))
def test_cached_headers_are_those_of_the_library(text: bool, length: int) -> None:
    payload = b"x" * length
    expected = Frame(TEXT if text else BINARY, payload).serialize(mask=False)
    assert HEADERS[text][length] + payload == expected


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_masks_are_applied_as_rfc_6455_says(data: bytes, key: bytes) -> None:
    assert apply_mask(data, key) == bytes(c ^ key[i % 4] for i, c in enumerate(data))
