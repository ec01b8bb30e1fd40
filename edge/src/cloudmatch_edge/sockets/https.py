"""Read one small document by HTTPS, within a time and a size, whatever its server does.

No redirect is followed, no compression asked for, no proxy used.
"""

import asyncio
import io
import ssl
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urlsplit

TIMEOUT = 10.0  # s for everything
HEAD_MAX = 16 * 1024  # bytes that HTTP adds to a document, at most
OK = 200


class _Received:
    """What was received, as the socket that `http.client` reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


async def get(url: str, most: int, context: ssl.SSLContext) -> bytes:
    """Return the document at an ``https://`` URL.

    Args:
        most: bytes of it.

    Raises:
        OSError: it cannot be read; a sentence says why.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            data = await _receive(url, most, context)
    except TimeoutError:
        raise OSError(f"its server has not answered within {TIMEOUT:g} s") from None
    response = HTTPResponse(cast("Any", _Received(data)))
    try:
        response.begin()
        body = response.read()
    except (HTTPException, ValueError) as error:
        raise OSError(f"its server does not speak HTTP: {type(error).__name__}") from None
    if response.status != OK:
        raise OSError(f"its server has answered {response.status}; redirects are not followed")
    return body


async def _receive(url: str, most: int, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        # HTTP/1.0, lest the server keep the connection: its end is the answer's
        head = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n\r\n"
        writer.write(head.encode())
        data = b""
        while chunk := await reader.read(64 * 1024):
            data += chunk
            if len(data) > most + HEAD_MAX:
                raise OSError(f"it has more than {most} bytes")
        return data
    finally:
        writer.transport.abort()
