"""Whose address counts: the peer's, or the one that trusted proxies name."""

import contextlib
from ipaddress import ip_address, ip_network
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_edge.sockets.client_address import (
    V2,
    MalformedError,
    forwarded,
    is_proxy_header,
    key,
    parse_address,
    peer_address,
    proxy_header,
    shown,
)

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
PROXY, STRANGER = ip_address("10.1.2.3"), ip_address("203.0.113.7")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
    ],
)
def test_an_address_may_have_brackets_and_a_port(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "a.example"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        parse_address(text)


def test_one_client_is_an_ipv4_address_or_a_64_of_ipv6() -> None:
    assert key(parse_address("203.0.113.7")) == bytes((203, 0, 113, 7))
    assert key(parse_address("2001:db8::1")) == key(parse_address("2001:db8::ffff:1"))
    assert shown(key(parse_address("203.0.113.7"))) == "203.0.113.7"
    assert shown(key(parse_address("2001:db8::1"))) == "2001:db8::/64"
    assert key(parse_address("2001:db8::1")) != key(parse_address("2001:db8:0:1::1"))


@pytest.mark.parametrize("text", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_not_counted(text: str) -> None:
    assert key(parse_address(text)) is None
    assert key(None) is None
    assert shown(None) == "this machine"


def test_a_socket_names_its_peer_unless_it_is_no_ip_socket() -> None:
    assert peer_address(("203.0.113.7", 4711)) == STRANGER
    assert peer_address(("fe80::1%eth0", 4711, 0, 2)) == ip_address("fe80::1")
    for name in (None, "", (), ("",), "/run/socket"):
        assert peer_address(name) is None


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ([], "10.1.2.3"),
        ([""], "10.1.2.3"),
        (["203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
        (["nonsense, 203.0.113.7, 10.9.9.9, fd00::1"], "203.0.113.7"),
        (["10.9.9.9"], "10.9.9.9"),
        (["10.8.8.8, 10.9.9.9"], "10.8.8.8"),
    ],
)
def test_the_rightmost_address_that_is_no_proxys_counts(values: list[str], address: str) -> None:
    assert forwarded(PROXY, values, PROXIES) == ip_address(address)


def test_what_others_say_is_not_read() -> None:
    assert forwarded(STRANGER, ["nonsense, 1.1.1.1"], PROXIES) == STRANGER
    assert forwarded(None, ["1.1.1.1"], PROXIES) is None


@pytest.mark.parametrize("value", ["unknown", "203.0.113.7, nonsense", "203.0.113.7;", "x" * 10_000])
def test_nonsense_of_a_proxy_is_named(value: str) -> None:
    with pytest.raises(MalformedError, match=r"X-Forwarded-For: .* is no address") as malformed:
        forwarded(PROXY, [value], PROXIES)
    assert len(str(malformed.value)) < 200


def v2(source: str, command: int = 0x21, more: bytes = b"") -> bytes:
    """A PROXY header of version 2."""
    address = ip_address(source).packed
    family = 0x11 if len(address) == 4 else 0x21
    body = 2 * address + pack("!HH", 4711, 80) + more
    return V2 + pack("!BBH", command, family, len(body)) + body


HEADERS = [
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n", "203.0.113.7"),
    (b"PROXY TCP6 2001:db8::7 fd00::1 4711 80\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 80\r\n", "203.0.113.7"),
    (b"PROXY UNKNOWN\r\n", "10.1.2.3"),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "10.1.2.3"),
    (v2("203.0.113.7"), "203.0.113.7"),
    (v2("203.0.113.7", more=b"\x04\x00\x01x"), "203.0.113.7"),
    (v2("2001:db8::7"), "2001:db8::7"),
    (v2("203.0.113.7", command=0x20), "10.1.2.3"),
    (V2 + b"\x20\x00\x00\x00", "10.1.2.3"),
    (V2 + b"\x21\x31\x00\x02xx", "10.1.2.3"),
]


@pytest.mark.parametrize(("header", "address"), HEADERS)
def test_a_proxy_header_names_the_client_and_is_waited_for(header: bytes, address: str) -> None:
    request = b"GET / HTTP/1.1\r\n\r\n"
    assert is_proxy_header(header)
    assert proxy_header(header + request, PROXY) == (ip_address(address), request)
    for end in range(len(header)):
        assert proxy_header(header[:end], PROXY) is None


def test_without_one_the_peer_counts() -> None:
    for data in (b"GET / HTTP/1.1\r\n", b"PROPFIND /", b"PUT", b"\r\n\r\nGET"):
        assert not is_proxy_header(data)
        assert proxy_header(data, PROXY) == (PROXY, data)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 203.0.113.7 10.0.0.1 4711 80\r\n",
        b"PROXY TCP4 2001:db8::7 fd00::1 4711 80\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n",
        b"PROXY TCP4 \xff 10.0.0.1 4711 80\r\n",
        b"PROXY TCP4 " + b"1" * 100,
        V2 + b"\x11\x11\x00\x0c" + bytes(12),
        V2 + b"\x22\x11\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\x00\x0b" + bytes(11),
        V2 + b"\x21\x21\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\xff\xff",
    ],
)
def test_a_malformed_proxy_header_is_refused(header: bytes) -> None:
    with pytest.raises(MalformedError, match="PROXY header"):
        proxy_header(header, PROXY)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21", V2 + b"\x21\x11\x00"]), st.binary())
def test_no_bytes_do_anything_else(start: bytes, data: bytes) -> None:
    try:
        found = proxy_header(start + data, PROXY)
    except MalformedError:
        return
    assert found is None or (start + data).endswith(found[1])


@given(st.lists(st.text()))
def test_no_header_does_anything_else(values: list[str]) -> None:
    with contextlib.suppress(MalformedError):
        assert forwarded(PROXY, values, PROXIES) is not None
