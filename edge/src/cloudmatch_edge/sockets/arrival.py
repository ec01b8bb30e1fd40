"""When a client asked for its connection, and whether it still waits for the answer.

An edge may read a request late: its process stood still, or thousands came at once. By then the client may
have given up, and be connected by another edge. The kernel knows both. Of a device's connections that one is
the newest for which its client asked last, not the one that was read last.
"""

import asyncio
import select
import socket
import struct
from typing import cast

_RECEIVED = struct.Struct("=52xI")  # `tcpi_last_data_recv` in `struct tcp_info`: ms since bytes last arrived
JIFFY = 0.01  # s by which the kernel may overstate that: what is read at once has not waited
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def waited(transport: asyncio.Transport) -> float:
    """Return how many seconds ago the last bytes of a client arrived; 0 if the kernel does not say."""
    sock: socket.socket = transport.get_extra_info("socket")
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size)
        seconds = cast("int", _RECEIVED.unpack(info)[0]) / 1000
    except (OSError, struct.error):
        return 0.0
    return seconds if seconds > JIFFY else 0.0


def abandoned(transport: asyncio.Transport) -> bool:
    """Whether the client has closed a connection, even if bytes that it sent before are still unread.

    A WebSocket client sends nothing between its request and the answer: its end behind the request means that
    it does not want the connection any more.
    """
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _ENDED)
    return bool(poll.poll(0))
