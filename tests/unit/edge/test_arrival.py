"""What the kernel knows of a request that was not read yet."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from cloudmatch_edge.sockets.arrival import abandoned, waited

Pair = tuple[socket.socket, asyncio.Transport]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of a socket whose close is a reset


class Transport(asyncio.Transport):
    """The edge's side of a connection, which nobody reads."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A client and its edge."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        edge, _ = listening.accept()
    with client, edge:
        yield client, Transport(edge)


def test_a_client_that_waits_for_its_answer_has_not_given_up(pair: Pair) -> None:
    client, edge = pair
    client.sendall(b"GET /")
    assert not abandoned(edge)


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_has_gone_is_known_before_its_request_is_read(pair: Pair, reset: bool) -> None:
    client, edge = pair
    client.sendall(b"GET /")
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert abandoned(edge)


def test_an_edge_that_reads_late_knows_for_how_long_a_request_has_waited(pair: Pair) -> None:
    client, edge = pair
    before = time.monotonic()
    client.sendall(b"GET /")
    time.sleep(0.2)
    assert 0.1 < waited(edge) <= time.monotonic() - before + 0.01  # its unit is a jiffy


def test_a_kernel_that_does_not_say_counts_as_one_that_read_at_once() -> None:
    with socket.socket(socket.AF_UNIX) as other:
        assert waited(Transport(other)) == 0.0
