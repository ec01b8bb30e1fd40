"""What waits for a socket: how much, when it is full and overfull, when it is given up."""

import asyncio
from typing import Any

import pytest

from cloudmatch_edge.sockets import writer as module
from cloudmatch_edge.sockets.writer import COST, HIGH_WATER, LARGE, MANY, OVERFULL, Writer

PATIENCE = 30.0


class Transport:
    """A transport whose kernel takes `room` bytes."""

    def __init__(self) -> None:
        self.room = 1 << 30
        self.taken = b""
        self.waiting = b""
        self.writer: Writer

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert (high, low) == (1, 0)

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        assert data
        blocked = bool(self.waiting)
        self.waiting += data
        self._take()
        if self.waiting and not blocked:
            self.writer.on_blocked()

    def drain(self, room: int = 1 << 30) -> None:
        """Let the kernel take so many bytes."""
        self.room = room
        self._take()
        if not self.waiting:
            self.writer.on_drained()

    def _take(self) -> None:
        taken, self.waiting = self.waiting[: self.room], self.waiting[self.room :]
        self.room -= len(taken)
        self.taken += taken


class Ends:
    """A writer and what it has asked for. Its timers are called by `wait`."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.transport = Transport()
        self.writer = Writer(
            self.transport,  # type: ignore[arg-type]  # what of it is used here
            lambda _: self.events.append("soon"),
            PATIENCE,
            lambda: self.events.append("full"),
            lambda: self.events.append("give up"),
        )
        self.transport.writer = self.writer

    def add(self, size: int) -> None:
        self.writer.add([(False, bytes(size))])

    def add_in_a_turn(self, size: int) -> None:
        self.writer.add_bytes(bytes(size))
        self.writer.flush()

    def pop_events(self) -> list[str]:
        events, self.events = self.events, []
        return events


class Clock:
    """Timers that fire when they are told to."""

    def __init__(self) -> None:
        self.timers: list[Any] = []

    def call_later(self, delay: float, callback: Any, *args: Any) -> "Clock.Timer":
        assert delay == PATIENCE
        self.timers.append(Clock.Timer(self, callback, args))
        return self.timers[-1]  # type: ignore[no-any-return]

    def pass_patience(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer.callback(*timer.args)

    class Timer:
        def __init__(self, clock: "Clock", callback: Any, args: Any) -> None:
            self.clock, self.callback, self.args = clock, callback, args

        def cancel(self) -> None:
            if self in self.clock.timers:
                self.clock.timers.remove(self)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    monkeypatch.setattr(module, "taken_by_host", lambda transport: (len(transport.taken), True))
    return made


def test_what_is_added_in_one_turn_is_written_at_once(clock: Clock) -> None:
    ends = Ends()
    ends.writer.add([(True, b"a"), (False, b"b")])
    ends.writer.add_bytes(b"\x8a\x00")
    assert ends.pop_events() == ["soon"]
    assert ends.transport.taken == b""
    ends.writer.flush()
    assert ends.transport.taken == b"\x81\x01a\x82\x01b\x8a\x00"
    ends.writer.flush()
    assert not clock.timers


def test_while_the_kernel_takes_nothing_all_waits_and_is_then_written_in_order(clock: Clock) -> None:
    ends = Ends()
    ends.transport.room = 1
    for byte in b"abc":
        ends.writer.add_bytes(bytes((byte,)))
        ends.writer.flush()
    ends.writer.add_bytes(b"d")
    assert (ends.transport.taken, ends.transport.waiting) == (b"a", b"b")
    ends.transport.drain()
    ends.writer.flush()
    assert ends.transport.taken == b"abcd"
    assert not ends.writer.full
    assert not clock.timers


def test_a_socket_is_full_once_too_much_waits_and_overfull_at_twice_that(clock: Clock) -> None:
    ends = Ends()
    ends.transport.room = 0
    ends.add(1)
    ends.writer.flush()  # 3 bytes with the header
    ends.add_in_a_turn(HIGH_WATER - COST - 3)
    assert not ends.writer.full, "just within the limit"
    ends.add_in_a_turn(1)
    assert ends.writer.full
    assert "full" in ends.pop_events()
    ends.add_in_a_turn(OVERFULL - HIGH_WATER - 2 * COST - 1)
    assert not ends.writer.overfull, "just within the limit"
    ends.add_in_a_turn(1)
    assert ends.writer.overfull
    assert "full" not in ends.pop_events()
    ends.transport.drain()
    assert not ends.writer.full
    assert not ends.writer.overfull


def test_many_small_answers_fill_a_socket_by_the_memory_that_they_take(clock: Clock) -> None:
    ends = Ends()
    ends.transport.room = 0
    for _ in range(2 + HIGH_WATER // COST):
        ends.add_in_a_turn(2)
    assert ends.writer.full


def test_much_in_one_turn_does_not_wait_for_its_end(clock: Clock) -> None:
    ends = Ends()
    ends.add(LARGE)
    assert ends.transport.taken == b""
    ends.add(LARGE + 1)
    assert len(ends.transport.taken) > 2 * LARGE
    before = len(ends.transport.taken)
    ends.writer.add([(True, b"")] * (MANY // 2))
    assert len(ends.transport.taken) == before
    ends.writer.add([(True, b"")])
    assert len(ends.transport.taken) == before + MANY + 2
    ends.transport.room = 0
    ends.add(OVERFULL)
    assert ends.writer.full
    assert ends.writer.overfull


def test_a_device_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not(clock: Clock) -> None:
    ends = Ends()
    ends.transport.room = 0
    ends.add(OVERFULL)
    ends.transport.drain(1)
    clock.pass_patience()
    assert "give up" not in ends.pop_events(), "it has taken a byte"
    assert ends.writer.full
    clock.pass_patience()
    assert ends.pop_events() == ["give up"]


def test_a_device_that_reads_again_in_time_is_not_given_up(clock: Clock) -> None:
    ends = Ends()
    ends.transport.room = 0
    ends.add(OVERFULL)
    ends.transport.drain()
    assert not clock.timers
    ends.transport.room = 0
    ends.add(OVERFULL)
    ends.writer.stop()  # the connection is lost
    assert not clock.timers


def test_the_end_is_written_behind_all_that_waits_and_nothing_behind_it(clock: Clock) -> None:
    ends = Ends()
    ends.transport.room = 1
    ends.writer.add_bytes(b"abc")
    ends.writer.flush()
    ends.writer.add_bytes(b"d")
    ends.writer.end(b"e")
    assert ends.writer.overfull
    assert ends.writer.full, "while it is closing, the answer to a ping may not wait either"
    ends.writer.add_bytes(b"never")
    ends.writer.flush()
    ends.writer.end(b"f")
    ends.writer.end(b"")
    ends.transport.drain()
    assert ends.transport.taken == b"abcde"
