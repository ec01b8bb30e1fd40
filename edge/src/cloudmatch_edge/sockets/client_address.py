"""Where a connection comes from: its peer, or whom the proxies say that are trusted. Pure.

A proxy says it before the request, by the PROXY protocol (versions 1 and 2, as HAProxy specifies them), or
within, by X-Forwarded-For, to which each proxy appends its own peer: so from the right, the first address
that is not a trusted proxy's is the client's, and what stands to the left of it counts for nothing.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

V1, V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
V1_MAX = 107  # bytes of the longest line
V2_HEADER = 16  # bytes before the addresses: signature, version and command, family, length
V2_MAX = 2048  # bytes of the addresses, and of what a proxy adds to them
IPV4 = 4  # bytes of an address
SIZES = {1: IPV4, 2: 16}  # bytes of an address, by family


class MalformedError(ValueError):
    """What a proxy says about its client cannot be used."""


def parse_address(text: str) -> Address:
    """Parse an address, without the port if it has one; IPv4 written as IPv6 becomes IPv4.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return _plain(ip_address(text))


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def key(address: Address | None) -> bytes | None:
    """Return what is counted as one client: an IPv4 address, or the /64 that one client has of IPv6. None, as
    nothing is counted: of this machine itself, or unknown."""
    if address is None or address.is_loopback:
        return None
    return address.packed[:8]


def shown(counted: bytes | None) -> str:
    """Return a `key` as a log line shows it."""
    if counted is None:
        return "this machine"
    if len(counted) == IPV4:
        return str(IPv4Address(counted))
    return f"{IPv6Address(counted + bytes(8))}/64"


def trusts(networks: Networks, address: Address | None) -> bool:
    """Whether an address is a trusted proxy's."""
    return address is not None and any(address in network for network in networks)


def peer_address(name: object) -> Address | None:
    """Return the address in what a socket calls its other side; None if there is none."""
    if not (isinstance(name, tuple) and name):
        return None
    try:
        return parse_address(str(name[0]).partition("%")[0])
    except ValueError:
        return None


def forwarded(peer: Address | None, values: Iterable[str], networks: Networks) -> Address | None:
    """Return the client's address, for a peer that sends these values of X-Forwarded-For.

    Raises:
        MalformedError: a proxy has appended something that is no address.
    """
    said = ",".join(values).split(",")
    while trusts(networks, peer) and said and (text := said.pop().strip()):
        try:
            peer = parse_address(text)
        except ValueError:
            raise MalformedError(f"X-Forwarded-For: {text[:64]!r} is no address") from None
    return peer


def is_proxy_header(data: bytes) -> bool:
    """Whether bytes begin with a PROXY header."""
    return data.startswith((V1, V2))


def proxy_header(data: bytes, peer: Address | None) -> tuple[Address | None, bytes] | None:
    """Return the address that a PROXY header at the start of `data` gives, and what follows it; `peer`, and
    all, if there is none, or if it gives no address; None if the header is incomplete.

    Raises:
        MalformedError: it never becomes a header.
    """
    if data.startswith(V1):
        return _version_1(data, peer)
    if data.startswith(V2):
        return _version_2(data, peer)
    return None if V1.startswith(data) or V2.startswith(data) else (peer, data)


def _version_1(data: bytes, peer: Address | None) -> tuple[Address | None, bytes] | None:
    end = data.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(data) < V1_MAX:
            return None
        raise MalformedError(f"the line of the PROXY header has more than {V1_MAX} bytes")
    words, rest = data[:end].split(b" "), data[end + 2 :]
    if words[1] == b"UNKNOWN":
        return peer, rest
    address = _named(words) if len(words) == 6 else None
    if address is None:
        raise MalformedError("this is no PROXY header: PROXY TCP4 client server port port")
    return address, rest


def _named(words: Sequence[bytes]) -> Address | None:
    try:
        address = ip_address(words[2].decode())
    except ValueError:
        return None
    return _plain(address) if words[1] == b"TCP%d" % address.version else None


def _version_2(data: bytes, peer: Address | None) -> tuple[Address | None, bytes] | None:
    if len(data) < V2_HEADER:
        return None
    version, command, family = data[12] >> 4, data[12] & 15, data[13] >> 4
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > V2_MAX:
        raise MalformedError(f"this is no PROXY header of version 2, with at most {V2_MAX} bytes behind it")
    end = V2_HEADER + length
    if len(data) < end:
        return None
    size = SIZES.get(family)
    if command == 0 or size is None:  # the proxy itself, or no IP
        return peer, data[end:]
    if length < 2 * size + 4:
        raise MalformedError("the PROXY header is shorter than its addresses")
    return _plain(ip_address(data[V2_HEADER : V2_HEADER + size])), data[end:]
