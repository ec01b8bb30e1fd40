"""What one socket may take of a turn of the event loop, and when it is read."""

import asyncio
from typing import Any

import pytest

from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import GOING_AWAY
from cloudmatch_edge.sockets import writer
from cloudmatch_edge.sockets.connection import READ, TURN_BYTES, TURN_FRAMES, Connection
from cloudmatch_edge.sockets.frame_stream import CLOSING_BYTES
from unit.edge.test_connection import HOST, UPGRADE, WHO, OneDevice, Transport
from unit.edge.test_frame_stream import frame

PLENTY = (1 << 30, 1 << 30)
PING, FRAGMENT = frame(9, b""), frame(0, b"x", fin=False)


class Device:
    """A device that keeps its frames."""

    def __init__(self) -> None:
        self.credit = PLENTY
        self.frames: list[SocketFrame] = []
        self.drained = 0

    def on_frames(self, frames: list[SocketFrame]) -> None:
        self.frames += frames

    def on_controls(self, _: int) -> None:
        """Let it send any number."""

    def on_drained(self) -> None:
        self.drained += 1


class Slow(Transport):
    """A socket whose kernel takes everything until it is `stuck`."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.stuck = False
        self.waiting = 0
        self.connection: Connection

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.stuck:
            self.waiting += len(data)
            self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def drain(self) -> None:
        self.stuck, self.waiting = False, 0
        self.connection.resume_writing()

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class Opened:
    """The connection of one device."""

    def __init__(self, device: Device, **settings: Any) -> None:
        self.device = device
        listener = OneDevice(**settings)
        listener.join = lambda *_, **__: self.device  # type: ignore[method-assign,assignment,return-value]
        self.transport = Slow()
        self.connection = self.transport.connection = Connection(listener)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]  # what of it is used here
        lines = b"".join(b"%s: %s\r\n" % each for each in UPGRADE.items())
        self.connection.data_received(b"GET " + WHO + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n")
        self.transport.written = b""

    def receive(self, data: bytes) -> None:
        assert self.transport.reading, "nothing is read meanwhile"
        self.connection.data_received(data)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def make() -> Opened:
        monkeypatch.setattr(writer, "taken_by_host", lambda _: (0, True))
        made = Opened(Device())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return made

    return make


async def test_a_burst_just_within_the_share_of_a_turn_is_taken_at_once(opened: Any) -> None:
    one = await opened()
    one.receive(frame(1, b"x") * TURN_FRAMES)
    assert len(one.device.frames) == TURN_FRAMES
    assert one.transport.reading


async def test_what_is_beyond_it_waits_for_the_next_turns_and_the_socket_is_not_read(opened: Any) -> None:
    one = await opened()
    one.receive(frame(1, b"x") * (2 * TURN_FRAMES + 1))
    for taken in (TURN_FRAMES, 2 * TURN_FRAMES, 2 * TURN_FRAMES + 1):
        assert len(one.device.frames) == taken
        assert one.transport.reading == (taken > 2 * TURN_FRAMES)
        one.connection.resume_reading()  # more credit gives no more of this turn
        await asyncio.sleep(0)


async def test_bytes_count_and_the_last_frame_may_exceed_them(opened: Any) -> None:
    one = await opened()
    large = frame(2, bytes(TURN_BYTES // 2 + 1))
    one.receive(large * 3)
    assert len(one.device.frames) == 2
    await asyncio.sleep(0)
    assert len(one.device.frames) == 3


async def test_a_read_that_filled_its_buffer_is_the_last_of_its_turn(opened: Any) -> None:
    one = await opened()
    READ[: len(READ)] = frame(2, bytes(1 << 18))[: len(READ)]
    for _ in range(2):
        one.connection.buffer_updated(len(one.connection.get_buffer(0)))
        assert not one.transport.reading
        await asyncio.sleep(0)
        assert one.transport.reading, "in the next turn"
    one.connection.buffer_updated(len(READ) - 1)
    assert one.transport.reading


@pytest.mark.parametrize("flood", [PING, FRAGMENT])
async def test_control_frames_and_fragments_count(opened: Any, flood: bytes) -> None:
    one = await opened()
    one.receive(frame(1, b"", fin=False))
    one.receive(flood * (2 * TURN_FRAMES))
    assert one.connection._stream.frames_cut == 1 + TURN_FRAMES
    assert not one.transport.reading
    await asyncio.sleep(0)
    assert one.connection._stream.frames_cut == 1 + 2 * TURN_FRAMES
    assert one.transport.reading


async def test_acks_behind_payloads_are_read_in_the_same_turn_as_far_as_there_is_credit(opened: Any) -> None:
    one = await opened()
    one.device.credit = (2, 100)
    one.receive(frame(1, b"x") * 6)
    assert len(one.device.frames) == 6, "this device uses up no credit"
    one.device.credit = (0, 100)
    one.receive(frame(1, b"y"))
    assert not one.transport.reading
    one.device.credit = PLENTY
    one.connection.resume_reading()
    assert one.transport.reading
    assert len(one.device.frames) == 7


async def test_a_full_socket_is_not_read_until_it_has_drained(opened: Any) -> None:
    one = await opened()
    one.transport.stuck = True
    one.connection.write([(False, bytes(writer.HIGH_WATER + 1))])
    assert not one.transport.reading
    assert not one.connection.writable
    assert not one.connection.overfull
    one.connection.data_received(frame(1, b"was on its way") + PING)
    assert one.device.frames == []
    one.transport.drain()
    assert one.device.frames == [(True, b"was on its way")]
    assert one.device.drained == 1
    assert one.connection.writable
    assert one.transport.reading


async def test_a_flood_that_fills_its_own_socket_is_answered_no_further(opened: Any) -> None:
    one = await opened()
    one.transport.stuck = True
    flood = frame(9, b"x" * 125)
    for _ in range(100):
        if one.transport.reading:
            one.receive(flood * TURN_FRAMES)
        await asyncio.sleep(0)
    assert not one.transport.reading
    assert one.transport.waiting < writer.HIGH_WATER + 2 * TURN_FRAMES * (127 + writer.COST)


async def test_a_device_that_takes_nothing_is_closed_with_1013(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await opened()
    one.connection._writer._patience = 0.01
    one.transport.stuck = True
    one.connection.write([(False, bytes(writer.HIGH_WATER + 1))])
    await asyncio.sleep(0.05)
    assert b"\x03\xf5this device takes nothing" in one.transport.written
    assert one.connection.overfull
    one.connection.connection_lost(None)


async def test_the_answer_to_a_close_is_found_behind_much_else_a_little_in_each_turn(opened: Any) -> None:
    one = await opened()
    one.connection.close(GOING_AWAY, "")
    one.receive(PING * (3 * CLOSING_BYTES // len(PING)) + frame(8, b"\x03\xe9"))
    turns = 0
    while not one.transport.closed:
        before = len(one.connection._stream._buffer)
        await asyncio.sleep(0)
        assert before - len(one.connection._stream._buffer) <= CLOSING_BYTES
        turns += 1
        assert turns < 10
    assert turns >= 2
    one.connection.connection_lost(None)
