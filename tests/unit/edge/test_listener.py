"""What a listener does with all its sockets."""

from collections.abc import Iterator
from typing import cast

import pytest

from cloudmatch_bus.process.health import Health
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets.connection import Connection
from cloudmatch_edge.sockets.listener import Listener
from simulation.virtual_time import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    virtual = VirtualLoop()
    yield virtual
    virtual.close()


class Socket:
    """A connection that ends as soon as it is told to, and knows when that was (s)."""

    def __init__(self, listener: Listener, loop: VirtualLoop) -> None:
        self._listener = listener
        self._loop = loop
        self.ended_at = -1.0

    def go_away(self) -> None:
        self.ended_at = self._loop.time()
        self._listener.closed(cast("Connection", self))


def ends(loop: VirtualLoop, count: int) -> list[float]:
    """When each of `count` connections ends at a shutdown, in s."""
    listener = Listener(EdgeSettings(), Health())
    sockets = [Socket(listener, loop) for _ in range(count)]
    for socket in sockets:
        listener.opened(cast("Connection", socket))
    loop.run_until_complete(listener.close())
    return sorted(socket.ended_at for socket in sockets)


def test_a_shutdown_closes_devices_in_batches_lest_all_return_at_once(loop: VirtualLoop) -> None:
    assert ends(loop, 100) == pytest.approx([round_ * 0.02 for round_ in range(5) for _ in range(20)])


def test_a_shutdown_of_many_devices_takes_two_seconds_at_most(loop: VirtualLoop) -> None:
    at = ends(loop, 10_000)
    assert at == pytest.approx([round_ * 0.02 for round_ in range(100) for _ in range(100)])


def test_a_shutdown_without_devices_ends_at_once(loop: VirtualLoop) -> None:
    assert ends(loop, 0) == []
    assert loop.time() == 0
