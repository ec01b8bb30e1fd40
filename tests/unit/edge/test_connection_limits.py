"""What a device may send: at which pace it is read, and what closes its connection."""

import asyncio
from typing import Any

import pytest

from cloudmatch_edge.sockets import connection as module
from cloudmatch_edge.sockets.connection import Connection
from unit.edge.test_connection import OneDevice
from unit.edge.test_connection_turns import Device, Opened, Slow
from unit.edge.test_frame_stream import frame

TEXT, PING, PONG = frame(1, b"x"), frame(9, b""), frame(10, b"")
PART, LAST = frame(1, b"x", fin=False), frame(0, b"x")
POLICY_VIOLATION = (1008).to_bytes(2, "big")


class Counting(Device):
    """A device that counts control frames."""

    def __init__(self) -> None:
        super().__init__()
        self.controls: list[int] = []

    def on_controls(self, count: int) -> None:
        self.controls.append(count)


class Timed(Opened):
    """The connection of one device, at a time that the test sets (s)."""

    device: Counting

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "taken_by_host", lambda _: (0, False))
        self.now = 100.0
        super().__init__(Counting(), **settings)

    @property
    def closed(self) -> bool:
        """Whether it was closed with 1008."""
        return POLICY_VIOLATION in self.transport.written


async def test_beyond_its_pace_a_device_is_not_read_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Timed(monkeypatch, frames=50)
    device.connection.data_received(TEXT * 60)
    assert len(device.device.frames) == 50
    assert not device.transport.reading
    device.now += 1
    await asyncio.sleep(0.05)
    assert len(device.device.frames) == 60
    assert device.transport.reading


async def test_without_a_pace_it_is_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Timed(monkeypatch)
    device.connection.data_received(TEXT * 60)
    assert len(device.device.frames) == 60


async def test_pings_and_pongs_are_counted_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Timed(monkeypatch)
    device.connection.data_received(PING + TEXT + PONG + PART + LAST)
    device.connection.data_received(TEXT)
    device.connection.data_received(PONG)
    assert device.device.controls == [2, 1]


@pytest.mark.parametrize("part", [PART, TEXT[:1], TEXT[:-1]])
async def test_a_message_that_never_ends_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    device = Timed(monkeypatch, message_timeout=30)
    device.connection.data_received(TEXT + part)
    device.connection.ping()
    device.now += 29.9
    device.connection.ping()
    assert not device.closed
    device.now += 0.2
    device.connection.ping()
    assert device.closed


@pytest.mark.parametrize("message_timeout", [30, 0])
async def test_messages_that_end_may_follow_each_other_for_ever(
    monkeypatch: pytest.MonkeyPatch, message_timeout: float
) -> None:
    device = Timed(monkeypatch, message_timeout=message_timeout)
    device.connection.data_received(PART)
    for _ in range(10):
        device.connection.ping()
        device.now += 20
        device.connection.data_received(LAST + PART)
    assert not device.closed
    device.connection.data_received(LAST)
    device.now += 100
    device.connection.ping()
    assert not device.closed


async def test_what_is_not_read_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Timed(monkeypatch, message_timeout=30)
    device.connection.data_received(PART)
    device.connection.ping()
    device.device.credit = (0, 0)
    device.connection.data_received(LAST)
    device.now += 100
    device.connection.ping()
    assert not device.closed


async def test_a_request_that_has_arrived_waits_for_its_turn_and_its_answer_for_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloudmatch_edge.sockets.listener.OPEN_TIMEOUT", 0.01)
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.01)
    waiting: list[Any] = []
    listener = OneDevice()
    monkeypatch.setattr(listener, "in_turn", waiting.append)
    aborted: list[str] = []
    for name, data in (("early", b"GET / HTTP"), ("in time", b"GET / HTTP/1.1\r\n\r\n")):
        transport = Slow()
        monkeypatch.setattr(transport, "abort", lambda name=name: aborted.append(name))
        connection = transport.connection = Connection(listener)
        connection.connection_made(transport)  # type: ignore[arg-type]  # what of it is used here
        connection.data_received(data)
    await asyncio.sleep(0.05)
    assert aborted == ["early"]
    waiting[0]()
    assert transport.written.startswith(b"HTTP/1.1 200 OK")
    await asyncio.sleep(0.05)
    assert aborted == ["early", "in time"]
