"""Whether a device is alive: it sends something, or its host takes what waits for it.

A ping is answered only after all that was written before it has been read. So a device that reads slowly
answers late; meanwhile its host acknowledges (TCP) more and more of the bytes that wait.
"""

import asyncio
import fcntl
import socket
import struct
import termios

# Bytes that the kernel takes for a device before they are on their way. By itself it takes 4 MB and more, and
# what it has taken counts as delivered to a classic device. Accepted sockets inherit it from listening ones.
NOT_SENT = 128 * 1024
MISSED = 4  # pings in a row without a sign of life, after which a device is dead
# In `struct tcp_info`: `tcpi_bytes_acked`; `tcpi_last_data_sent` and the three fields behind it, in ms.
ACKNOWLEDGED, LAST = struct.Struct("=120xQ"), struct.Struct("=44x4I")


def bound_unsent(listening: socket.socket) -> None:
    """Bound what the kernel holds of each connection that will be accepted."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)


def taken_by_host(transport: asyncio.Transport) -> tuple[int, bool]:
    """Return how many bytes a connection's other side has acknowledged, and whether more wait for that."""
    sock = transport.get_extra_info("socket")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKNOWLEDGED.size)
    queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)) != bytes(4)
    return ACKNOWLEDGED.unpack(info)[0], queued or transport.get_write_buffer_size() > 0


def silence(transport: asyncio.Transport) -> float:
    """Return for how many seconds no byte had passed, either way, when the other side ended a connection.

    0 if nobody knows: once TLS is over, its transport has no socket.
    """
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None:
        return 0.0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST.size)
    sent, _, received, acknowledgement = LAST.unpack(info)
    quiet: int = min(sent, received)
    # The end itself came with the last acknowledgement, and was read some time later.
    return (quiet - acknowledgement if acknowledgement < quiet else quiet) / 1000


class Liveness:
    """Signs of life of one device, from one ping to the next."""

    def __init__(self) -> None:
        self.heard = True  # whether bytes have arrived since the last ping
        self._missed = 0
        self._taken, self._waiting = 0, False

    def check(self, taken: int, *, waiting: bool) -> bool:
        """Return whether the device is to be pinged again; it is dead otherwise.

        Args:
            taken: how many bytes its host has acknowledged.
            waiting: whether more wait for that.
        """
        alive = self.heard or (self._waiting and taken > self._taken)
        self.heard, self._taken, self._waiting = False, taken, waiting
        self._missed = 0 if alive else self._missed + 1
        return self._missed < MISSED
