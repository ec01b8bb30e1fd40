"""A classic device: any WebSocket client."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection, connect

from harness.services import Service


@contextlib.asynccontextmanager
async def device(
    edge: Service,
    name: str,
    lat: float,
    lon: float,
    trust: ssl.SSLContext | None = None,
    close_timeout: float = 10,
    **more: object,
) -> AsyncIterator[ClientConnection]:
    """Connect a device to an edge and wait for the greeting.

    Args:
        trust: TLS context for an edge that uses TLS.
        close_timeout: Seconds allowed for the edge to answer the close.
        more: Further parameters of the connection.
    """
    extra = "".join(f"&{k}={v}" for k, v in more.items())
    url = edge.url.replace("http", "ws") + f"/device/connect?id={name}&lat={lat}&lon={lon}{extra}"
    async with connect(url, ssl=trust, max_size=None, close_timeout=close_timeout) as socket:
        assert (await receive_text(socket)).startswith("Connected and handled by edge-")
        yield socket


async def receive_text(socket: ClientConnection) -> str:
    """Return the next text from the edge."""
    message = await asyncio.wait_for(socket.recv(), 10)
    assert isinstance(message, str)
    return message
