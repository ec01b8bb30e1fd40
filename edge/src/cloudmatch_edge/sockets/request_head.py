"""The head of an HTTP request (RFC 9112): bytes in, request or error out. It knows nothing of WebSockets.

Only one request is read from a connection, and its body, if any, is ignored: that ends with the connection.
"""

import re

from websockets.datastructures import Headers
from websockets.http11 import Request

from cloudmatch_edge.sockets import pages

HEAD_MAX = 16 * 1024  # bytes
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_METHOD_START = re.compile(_TOKEN)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/([0-9])\.[0-9]")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_END = re.compile(rb"\n\r?\n")
_AUTHORITY = re.compile(r"https?://[^/?]*", re.IGNORECASE)  # of a target in absolute form


class RefusedError(Exception):
    """The bytes are no request; `page` says why."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.page = pages.error(status, code, detail)


def parse(data: bytes) -> tuple[Request, bytes] | None:
    """Return the request whose head `data` begins with, and the bytes behind that; None if it is incomplete.

    Its path is origin form, or ``*``, whatever form the target has. What is not ASCII in the target is kept,
    as UTF-8: a URL has no such bytes, but whoever reads it can name the parameter.

    Raises:
        RefusedError: these bytes can never become a request.
    """
    data = data.lstrip(b"\r\n")
    if data and not _METHOD_START.match(data):
        raise RefusedError(400, "bad_request", "this is not HTTP: a request begins with a method")
    line_end = data.find(b"\n", 0, HEAD_MAX)
    if line_end < 0:
        if len(data) >= HEAD_MAX:
            raise RefusedError(414, "uri_too_long", f"the request line has more than {HEAD_MAX} bytes")
        return None
    method, path, protocol = _request_line(data[:line_end].removesuffix(b"\r"))
    end = _END.search(data, line_end, HEAD_MAX)
    if end is None:
        if len(data) >= HEAD_MAX:
            raise RefusedError(431, "headers_too_large", f"the headers have more than {HEAD_MAX} bytes")
        return None
    headers = _headers(data[line_end + 1 : end.start() + 1])
    return Request(path, headers, method, protocol), data[end.end() :]


def has_body(request: Request) -> bool:
    """Return whether bytes of a body follow the head."""
    lengths = request.headers.get_all("Content-Length")
    return "Transfer-Encoding" in request.headers or any(length.strip("0") for length in lengths)


def _request_line(line: bytes) -> tuple[str, str, str]:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise RefusedError(400, "bad_request", "this is no request line: METHOD /path HTTP/1.1")
    if found[3] != b"1":
        raise RefusedError(505, "http_version_not_supported", "this server speaks HTTP/1.1 and HTTP/1.0")
    target = found[2].decode(errors="replace")
    if authority := _AUTHORITY.match(target):
        target = target[authority.end() :]
        target = target if target.startswith("/") else f"/{target}"
    return found[1].decode(), target, "HTTP/1.0" if line.endswith(b".0") else "HTTP/1.1"


def _headers(lines: bytes) -> Headers:
    headers = Headers()
    for line in lines.split(b"\n")[:-1]:
        found = _HEADER.fullmatch(line.removesuffix(b"\r"))
        if found is None:
            shown = line.partition(b":")[0][:40].decode(errors="backslashreplace")  # a value may be secret
            raise RefusedError(400, "bad_request", f"this is no header: {shown!r}")
        headers[found[1].decode()] = found[2].decode("latin-1").rstrip(" \t")
    return headers
