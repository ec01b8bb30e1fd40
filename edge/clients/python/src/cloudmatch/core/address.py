"""The URL a device connects to: the server's, with the device's parameters."""

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

CONNECT = "/device/connect"
SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def address(base: str, query: Mapping[str, str]) -> str:
    """Return the WebSocket URL for a server at `base`, such as ``http://127.0.0.1:8080``.

    Raises:
        ValueError: `base` is not the URL of a server.
    """
    parts = urlsplit(base)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(
            f"a server's URL looks like http://127.0.0.1:8080 or wss://example.org, not {base!r}"
        )
    path = parts.path.rstrip("/")
    if not path.endswith(CONNECT):
        path += CONNECT
    more = "&".join(filter(None, (parts.query, urlencode(query))))
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, path, more, ""))
