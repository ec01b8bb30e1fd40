"""One classic device, on a WebSocket of the websockets library's sans-I/O client.

Texts and pongs are handed on at once and in order, so that a device that pings can tell which of its payloads
the edge had accepted before it sent which text.
"""

import asyncio
import socket
from collections.abc import Callable
from urllib.parse import urlencode

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

GREETING = "Connected and handled by "
MATCHED = "I matched with device '"


def peer_of(text: str) -> str | None:
    """Return the peer that a text of the server announces; None for any other text."""
    return text[len(MATCHED) : -2] if text.startswith(MATCHED) else None


class Client(asyncio.Protocol):
    """A connected device. Made by `connect`."""

    transport: asyncio.Transport

    def __init__(self, url: str, on_text: Callable[[str], None], on_pong: Callable[[bytes], None]) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._on_text = on_text
        self._on_pong = on_pong
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        # set while the transport accepts more
        self.writable = asyncio.Event()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a stream it is a Transport
        self.transport.set_write_buffer_limits(16 * 1024)
        self.writable.set()
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._events()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._events()

    def connection_lost(self, _: Exception | None) -> None:
        self._protocol.receive_eof()
        self.writable.set()
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("refused"))
        self.closed.set_result(self._protocol.close_code)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # -- the device's side

    @property
    def open(self) -> bool:
        """Whether payloads can still be sent."""
        return self._protocol.state is OPEN

    def send(self, *texts: str) -> None:
        """Send texts, in one write."""
        for text in texts:
            self._protocol.send_text(text.encode())
        self._flush()

    def ping(self, payload: bytes) -> None:
        """Ping; `on_pong` gets the same payload."""
        self._protocol.send_ping(payload)
        self._flush()

    async def close(self, code: int = 1000) -> None:
        """Close and wait for the end."""
        if self.open:
            self._protocol.send_close(code)
            self._flush()
        try:
            await asyncio.wait_for(asyncio.shield(self.closed), 5)
        except TimeoutError:
            self.transport.abort()
            await self.closed

    def _events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                if event.status_code == 101:
                    self.opened.set_result(None)
                else:
                    self.opened.set_exception(ConnectionError(f"refused: {event.status_code}"))
            elif isinstance(event, Frame):
                if event.opcode is Opcode.TEXT:
                    self._on_text(bytes(event.data).decode())
                elif event.opcode is Opcode.PONG:
                    self._on_pong(bytes(event.data))
        self._flush()
        if self._protocol.close_expected():
            self.transport.close()

    def _flush(self) -> None:
        writes = self._protocol.data_to_send()
        if self.transport.is_closing():
            return
        self.transport.writelines([data for data in writes if data])
        if writes and not writes[-1] and self.transport.can_write_eof():
            self.transport.write_eof()


def _ignore(_: bytes) -> None:
    pass


async def connect(
    edge: str,
    on_text: Callable[[str], None],
    on_pong: Callable[[bytes], None] = _ignore,
    *,
    buffer: int | None = None,
    **parameters: object,
) -> Client:
    """Connect a device to the edge at this URL (http://host:port).

    Args:
        buffer: size of each of its socket's buffers in bytes; None: the kernel's default.

    Raises:
        ConnectionError: it was refused.
    """
    url = f"{edge.replace('http', 'ws', 1)}/device/connect?{urlencode(parameters)}"
    target = parse_uri(url)
    sock = socket.socket()
    sock.setblocking(False)
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, (target.host, target.port))
        _, client = await loop.create_connection(lambda: Client(url, on_text, on_pong), sock=sock)
    except BaseException:  # the caller may time out
        sock.close()
        raise
    await asyncio.wait_for(client.opened, 10)
    return client
