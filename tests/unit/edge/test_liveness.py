"""Signs of life of a device: what it sends, and what its host takes of what waits for it."""

import asyncio
import itertools
import socket
from typing import cast

from cloudmatch_edge.sockets.liveness import NOT_SENT, Liveness, bound_unsent, silence, taken_by_host


class Device(Liveness):
    """A device and its host."""

    taken, waiting = 0, False

    def lives(self) -> bool:
        return self.check(self.taken, waiting=self.waiting)

    def missed(self) -> int:
        """Return how many pings the device survives from now on, if nothing changes."""
        return next(count for count in itertools.count() if not self.lives())


def test_a_device_is_alive_while_it_answers_one_of_four_pings() -> None:
    device = Device()
    for _ in range(3):
        assert all(device.lives() for _ in range(4))
        device.heard = True
    assert device.missed() == 4


def test_a_device_that_reads_slowly_is_alive_until_its_host_takes_no_more() -> None:
    device = Device()
    device.waiting = True
    for _ in range(10):
        assert device.lives()
        device.taken += 300_000
    assert device.missed() == 4


def test_a_host_that_takes_nothing_but_pings_shows_nothing_of_its_device() -> None:
    device = Device()
    for _ in range(4):
        assert device.lives()
        device.taken += 2
    assert not device.lives()


def test_the_last_bytes_that_waited_leave_the_device_time_to_answer() -> None:
    device = Device()
    assert all(device.lives() for _ in range(3))
    device.waiting = True
    assert device.lives()
    device.taken, device.waiting = 100, False
    assert device.missed() == 4


async def test_the_kernel_says_what_the_host_has_taken_and_holds_little_that_it_has_not() -> None:
    made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set_result(cast("asyncio.Transport", transport))

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as device:
        device.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        bound_unsent(listening)
        device.connect(listening.getsockname())
        listening.setblocking(False)
        async with await asyncio.get_running_loop().create_server(Accepted, sock=listening):
            transport = await made
            written = 0
            while not transport.get_write_buffer_size():
                transport.write(bytes(4096))
                written += 4096
            assert written < 4 * NOT_SENT
            taken, waiting = taken_by_host(transport)
            assert 0 < taken < written
            assert waiting
            device.recv(1 << 20)
            transport.abort()


def test_of_a_transport_without_a_socket_no_silence_is_known() -> None:
    assert silence(asyncio.Transport()) == 0.0
