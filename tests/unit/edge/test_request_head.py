"""Heads of HTTP requests: every form of RFC 9112 is read, everything else is refused with its reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_edge.sockets.request_head import HEAD_MAX, RefusedError, has_body, parse


def refusal(data: bytes) -> tuple[int, str]:
    """Return status and code of the error for these bytes."""
    with pytest.raises(RefusedError) as refused:
        parse(data)
    page = refused.value.page
    return page.status, json.loads(page.body)["error"]["code"]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a?b=%20", "/a?b=%20"),
        (b"http://host:8080/a?b", "/a?b"),
        (b"HTTPS://host", "/"),
        (b"http://host?b", "/?b"),
        (b"*", "*"),
        ("/?id=温".encode(), "/?id=温"),
        (b"/\xff", "/\ufffd"),
    ],
)
def test_every_form_of_a_target_is_a_path(target: bytes, path: str) -> None:
    found = parse(b"GET " + target + b" HTTP/1.1\r\n\r\n")
    assert found is not None
    assert found[0].path == path


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_head_is_read_whatever_is_before_and_behind_it(end: bytes) -> None:
    lines = (
        b"",
        b"",
        b"OPTIONS * HTTP/1.0",
        b"Host: a",
        b"X-Empty:",
        b"X: a\tb \xe9 \t",
        b"host:b",
        b"",
        b"GET /",
    )
    found = parse(end.join(lines))
    assert found is not None
    request, rest = found
    assert (request.method, request.path, request.protocol) == ("OPTIONS", "*", "HTTP/1.0")
    assert list(request.headers.raw_items()) == [
        ("Host", "a"),
        ("X-Empty", ""),
        ("X", "a\tb é"),
        ("host", "b"),
    ]
    assert rest == b"GET /"


def test_a_newer_minor_version_is_read_as_1_1() -> None:
    found = parse(b"GET / HTTP/1.7\r\n\r\n")
    assert found is not None
    assert found[0].protocol == "HTTP/1.1"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x16\x03\x01\x02", (400, "bad_request")),  # TLS
        (b"\x00", (400, "bad_request")),
        (b"GET /\r\n", (400, "bad_request")),
        (b"GET  / HTTP/1.1\r\n", (400, "bad_request")),
        (b"GET /a b HTTP/1.1\r\n", (400, "bad_request")),
        (b"G(T / HTTP/1.1\r\n", (400, "bad_request")),
        (b"GET /\x00 HTTP/1.1\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1 \r\n", (400, "bad_request")),
        (b"PRI * HTTP/2.0\r\n", (505, "http_version_not_supported")),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", (400, "bad_request")),
        (b"GET /" + b"a" * HEAD_MAX, (414, "uri_too_long")),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * HEAD_MAX, (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * HEAD_MAX + b"\r\n", (431, "headers_too_large")),
    ],
)
def test_what_can_never_become_a_request_is_refused(data: bytes, error: tuple[int, str]) -> None:
    assert refusal(data) == error


def test_lines_up_to_the_limit_are_read() -> None:
    for line in (b"GET /%s HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA: %s\r\n\r\n"):
        assert parse(line % (b"a" * (HEAD_MAX - len(line) + 2))) is not None
        assert refusal(line % (b"a" * HEAD_MAX))[0] in (414, 431)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"", False),
        (b"Content-Length: 0\r\n", False),
        (b"Content-Length: 10\r\n", True),
        (b"Content-Length: x\r\n", True),
        (b"Transfer-Encoding: chunked\r\n", True),
    ],
)
def test_a_request_has_a_body_or_none(headers: bytes, body: bool) -> None:  # a case, not an option
    found = parse(b"POST / HTTP/1.1\r\n" + headers + b"\r\n")
    assert found is not None
    assert has_body(found[0]) is body


@given(st.binary(), st.integers(0, 200))
def test_what_is_read_does_not_depend_on_how_it_arrives(noise: bytes, cut: int) -> None:
    data = b"\r\nGET /a HTTP/1.1\r\nHost: b\r\n" + noise + b"\r\n\r\nrest"
    try:
        whole = parse(data)
    except RefusedError:
        return
    assert whole is not None
    request, rest = whole
    at = min(cut, len(data))
    first = parse(data[:at])
    assert first is None or (first[0], first[1] + data[at:]) == (request, rest)
