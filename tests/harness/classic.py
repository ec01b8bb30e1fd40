"""A device of 2019: any WebSocket client is one."""

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
    """Connect a device to an edge, until it has been greeted.

    Args:
        trust: with which certificates, where the edge speaks TLS.
        close_timeout: seconds for the edge to answer the end.
        more: other parameters of the connection.
    """
    extra = "".join(f"&{k}={v}" for k, v in more.items())
    url = edge.url.replace("http", "ws") + f"/device/connect?id={name}&lat={lat}&lon={lon}{extra}"
    async with connect(url, ssl=trust, max_size=None, close_timeout=close_timeout) as socket:
        assert (await hears(socket)).startswith("Connected and handled by edge-")
        yield socket


async def hears(socket: ClientConnection) -> str:
    """Give the next text that a device hears."""
    message = await asyncio.wait_for(socket.recv(), 10)
    assert isinstance(message, str)
    return message
