"""Origins of web pages, as browsers send them: `https://example.com` (RFC 6454)."""

import re

ANY = "*"
OPAQUE = ("null", "file://")  # of sandboxed pages, and of files
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def normal(text: str) -> str:
    """Return an origin as browsers write it: in small letters, without its default port or a slash.

    Raises:
        ValueError: it is none.
    """
    origin = text.strip().lower()
    if origin in OPAQUE:
        return origin
    found = _ORIGIN.fullmatch(origin)
    if found is None or not 0 < int(found[3] or 1) < 65536:
        raise ValueError(
            f"{text.strip()!r} is no origin, such as https://example.com or http://localhost:3000"
        )
    scheme, host = found[1], found[2]
    port = int(found[3]) if found[3] else None
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def listed(text: str) -> list[str]:
    """Parse a list of origins, separated by commas; `*`, alone or among others, stands for any.

    Raises:
        ValueError: an entry is no origin.
    """
    entries = [entry for entry in map(str.strip, text.split(",")) if entry]
    return [ANY] if ANY in entries else [normal(entry) for entry in entries]


def allows(origins: list[str], origin: str) -> bool:
    """Return whether a list contains an origin, however that is spelled."""
    if ANY in origins:
        return True
    try:
        return normal(origin) in origins
    except ValueError:
        return False
