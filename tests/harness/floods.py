"""Floods: what one hostile client sends to an edge as fast as it takes it, and what becomes of that client.

A flood runs in threads with blocking sockets, so that the event loop of a test or bench stays free for
bystanders.
"""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

BURST = 256 * 1024  # bytes sent at a time, about
KEY = b"\x01\x02\x03\x04"  # masks need not be random here
TEXT, BINARY, PING = 1, 2, 9
CONNECTS = 200  # per second


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Make a frame as a client sends it."""
    head = bytes((fin << 7 | opcode,))
    if len(data) < 126:
        head += bytes((0x80 | len(data),))
    elif len(data) < 65536:
        head += b"\xfe" + struct.pack("!H", len(data))
    else:
        head += b"\xff" + struct.pack("!Q", len(data))
    mask = (KEY * (len(data) // 4 + 1))[: len(data)]
    masked = (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(data), "big")
    return head + KEY + masked


def message(**fields: object) -> bytes:
    """Make a frame of `cloudmatch.v1`."""
    return frame(TEXT, json.dumps(fields).encode())


def repeated(one: bytes, size: int = BURST) -> bytes:
    """Repeat frames until they are about `size` bytes."""
    return one * max(1, size // len(one))


class Client:
    """A blocking WebSocket. `received` counts bytes; `reads`: whether a thread takes what arrives."""

    def __init__(
        self, url: str, name: str, *, v1: bool = True, reads: bool = True, buffer: int = 0, lat: float = 60
    ) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(5)
        self.socket.connect((parts.hostname, parts.port))
        self.socket.sendall(handshake(name, v1=v1, lat=lat))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, head
            head += byte
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.received = 0
        self.tail = b""  # the last bytes that arrived
        self.matched = threading.Event()
        self.ended = threading.Event()
        if reads:
            threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        """Take what arrives until the connection ends."""
        with contextlib.suppress(OSError):
            while True:
                try:
                    data = self.socket.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                self.received += len(data)
                self.tail = (self.tail + data)[-4096:]
                if b'"type":"matched"' in self.tail:
                    self.matched.set()
        self.ended.set()

    @property
    def close_code(self) -> int | None:
        """The code of the close frame that has arrived; None if there was none."""
        at = self.tail.rfind(b"\x88")
        return int.from_bytes(self.tail[at + 2 : at + 4], "big") if at >= 0 else None

    def send(self, data: bytes, deadline: float) -> int:
        """Send until the deadline (monotonic); return how much was taken."""
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(data) and (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                sent += self.socket.send(data[sent : sent + 65536])
        return sent

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def handshake(name: str, *, v1: bool = True, lat: float = 60) -> bytes:
    """Make the request of a device."""
    query = urlencode({"id": name, "app": "hostile", "lat": lat, "lon": 10})
    return (
        f"GET /device/connect?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + ("Sec-WebSocket-Protocol: cloudmatch.v1\r\n" if v1 else "")
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


@dataclass
class Ended:
    """How a flood ended."""

    sent: int = 0  # bytes that the edge's host took
    end: str = "goes on"  # of its connection


Flood = Callable[[str, float], Ended]  # URL of an edge, seconds


def _stream(
    burst: Callable[[], bytes], first: bytes = b"", *, matched: bool = False, reads: bool = True
) -> Flood:
    """Make a flood of one device."""

    def flood(url: str, seconds: float) -> Ended:
        data = burst()
        with contextlib.ExitStack() as clients:
            client = Client(url, "flooder", reads=reads)
            clients.callback(client.close)
            if matched:
                peer = Client(url, "accomplice", lat=60.0001)
                clients.callback(peer.close)
                assert client.matched.wait(10)
            ended = Ended()
            deadline = time.monotonic() + seconds
            try:
                client.send(first, deadline)
                while time.monotonic() < deadline:
                    ended.sent += client.send(data, deadline)
            except OSError:
                client.ended.wait(5)
                ended.end = f"closed with {client.close_code}" if client.close_code else "cut off"
            if client.close_code:
                ended.end = f"closed with {client.close_code}"
            return ended

    return flood


def _slow_handshakes(url: str, seconds: float) -> Ended:
    """1,000 clients send their requests a byte at a time."""
    parts = urlsplit(url)
    ended, sockets = Ended(), list[socket.socket]()
    deadline = time.monotonic() + seconds
    request = handshake("slow")
    try:
        for _ in range(1000):
            sockets.append(socket.create_connection((parts.hostname or "", parts.port or 0), 5))
        at = 0
        while time.monotonic() < deadline:
            for each in sockets:
                each.send(request[at : at + 1])
            ended.sent += len(sockets)
            at += 1
    except OSError:
        ended.end = "cut off"
    finally:
        for each in sockets:
            each.close()
    return ended


def _connects(url: str, seconds: float) -> Ended:
    """A client connects and closes 200 times a second."""
    ended, begun = Ended(), time.monotonic()
    number = 0
    while (now := time.monotonic()) < begun + seconds:
        if number > CONNECTS * (now - begun):
            time.sleep(1 / CONNECTS)
            continue
        try:
            Client(url, f"comes-and-goes-{number}", reads=False).close()
        except (AssertionError, OSError):
            ended.end = "refused at times"
        number += 1
        ended.sent += len(handshake("comes-and-goes-000"))
    return ended


_REF = "r" * 128

FLOODS: dict[str, Flood] = {
    "pings": _stream(lambda: repeated(frame(PING))),
    "1-byte frames, no match": _stream(lambda: repeated(frame(BINARY, b"x"))),
    "1-byte frames, matched": _stream(lambda: repeated(frame(BINARY, b"x")), matched=True),
    "1-byte fragments": _stream(lambda: repeated(frame(0, b"x", fin=False)), frame(TEXT, b"x", fin=False)),
    "bad JSON": _stream(lambda: repeated(frame(TEXT, b'{"type":"message","text":'))),
    "refs of 128 characters": _stream(lambda: repeated(message(type="message", text="x", ref=_REF))),
    "64 KiB frames, no match": _stream(lambda: repeated(frame(BINARY, bytes(65536)))),
    "64 KiB of JSON, no match": _stream(lambda: repeated(frame(TEXT, b"[" + b"{}," * 21_844 + b"0]"))),
    "locate and unmatch": _stream(
        lambda: repeated(message(type="locate", lat=60, lon=10) + message(type="unmatch")), matched=True
    ),
    "1,000 slow handshakes": _slow_handshakes,
    "connect and close, 200/s": _connects,
    "never reads": _stream(lambda: repeated(frame(BINARY, b"x")), reads=False),
}


@contextlib.contextmanager
def flooding(flood: Flood, url: str, seconds: float) -> Iterator[list[Ended]]:
    """Run a flood beside the body; how it ended is in the list after it."""
    ended: list[Ended] = []
    thread = threading.Thread(target=lambda: ended.append(flood(url, seconds)), daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        thread.join(seconds + 20)
