"""What is sent: frames of a dialect, mutated, and bytes that are no frames at all. The same for a seed."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MAX_PAYLOAD = 64 * 1024  # bytes, the edge's setting
LIMIT = 6 * MAX_PAYLOAD  # bytes of a text frame that the edge reads in any case
NUMBERS = (
    0,
    1,
    -1,
    16,
    255,
    2**31,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**40,
    10**400,
    1.5,
    1e308,
)
SAID_BY_DEVICES = ("message", "ack", "unmatch", "locate", "leave", "ping")
SAID_BY_SERVERS = ("welcome", "waiting", "matched", "resumed", "receipt", "peer_left", "gap", "error", "pong")
TOKENS = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xef\xbb\xbf",
    b"//",
    b"{}",
    b"\x00",
    b",",
)


class Frame(NamedTuple):
    """A frame of a device. `last`: whether the edge may close because of it, so nothing should follow."""

    data: bytes
    opcode: int = TEXT
    last: bool = False

    def encoded(self) -> bytes:
        """Give its bytes on the wire."""
        return encode(self.opcode, self.data)


def encode(
    opcode: int, data: bytes, head: int = 0x80, mask: bytes | None = bytes(4), length: int = -1
) -> bytes:
    """Make a WebSocket frame, right or wrong.

    Args:
        head: FIN and reserved bits.
        mask: key; None: the frame is not masked.
        length: what it says its length is; -1: the truth.
    """
    size = len(data) if length < 0 else length
    masked = 0 if mask is None else 0x80
    out = bytes([head | opcode])
    if size < 126:
        out += bytes([masked | size])
    elif size < 1 << 16:
        out += struct.pack("!BH", masked | 126, size)
    else:
        out += struct.pack("!BQ", masked | 127, size & (1 << 64) - 1)
    if mask is None:
        return out + data
    if any(mask):
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    return out + mask + data


class Nonsense:
    """A source of it."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # no secret

    # -- of cloudmatch.v1

    def v1(self) -> Frame:
        """Give a frame of a cloudmatch.v1 device."""
        chance = self._chance.random()
        if chance < 0.001:
            return self._oversized()
        if chance < 0.08:
            return Frame(self._bytes(2000), BINARY)
        if chance < 0.1:
            return Frame(self._bytes(125), self._chance.choice((PING, PONG)))
        if chance < 0.15:
            return Frame(self._words(200).encode())
        said = self._said()
        data = json.dumps(said, ensure_ascii=self._chance.random() < 0.5).encode(errors="surrogatepass")
        if self._chance.random() < 0.5:
            data = self._mutated(data)
        if self._chance.random() < 0.999:
            data = data.decode(errors="replace").encode()
        return Frame(data, last=b"leave" in data or len(data) > LIMIT or not _is_utf8(data))

    def _said(self) -> Any:
        chance = self._chance
        kind = chance.choices(
            (*SAID_BY_DEVICES, *SAID_BY_SERVERS, self._words(20)),
            (30, 20, 0.3, 10, 0.05, 10, *(1 for _ in SAID_BY_SERVERS), 2),
        )[0]
        said: dict[str, Any] = {"type": kind}
        match kind:
            case "message":
                said["text"] = self._words(300) if chance.random() < 0.99 else "é" * MAX_PAYLOAD
                if chance.random() < 0.3:
                    said["ref"] = self._words(chance.choice((5, 5, 200)))
            case "ack":
                said["received"] = chance.choice(NUMBERS)
                if chance.random() < 0.05:  # later ones without are then not believed
                    said["match"] = chance.choice(NUMBERS)
            case "locate":
                said |= {"lat": chance.uniform(-100, 100), "lon": chance.uniform(-200, 200)}
        while chance.random() < 0.3:
            name = chance.choice((*said, "type", "text", "received", "ref", "lat", "match", self._words(8)))
            said[name] = self._value()
        if chance.random() < 0.05 and len(said) > 1:
            del said[chance.choice(list(said))]
        return said if chance.random() < 0.97 else self._value()

    def _value(self) -> Any:
        chance = self._chance
        make: Callable[[], Any] = chance.choice(
            (
                lambda: chance.choice(NUMBERS),
                lambda: chance.choice((None, True, False, [], {}, "", "\ud800", "\x00")),
                lambda: self._words(50),
                lambda: self._deep(chance.choice((2, 20, 900))),
                lambda: {self._words(5): self._words(5) for _ in range(chance.randrange(30))},
            )
        )
        return make()

    def _deep(self, depth: int) -> Any:
        value: Any = 0
        for _ in range(depth):
            value = [value] if self._chance.random() < 0.5 else {"a": value}
        return value

    def _mutated(self, data: bytes) -> bytes:
        chance = self._chance
        for _ in range(chance.choice((1, 1, 2, 8))):
            at, to = sorted(chance.randint(0, len(data)) for _ in "<>")
            match chance.randrange(7):
                case 0:
                    data = data[:at] + self._bytes(3) + data[at:]
                case 1:
                    data = data[:at] + data[to:]
                case 2:
                    data = data[:to] + data[at:]
                case 3:
                    data = data[:at]
                case 4:
                    data = data[:at] + chance.choice(TOKENS) + data[at:]
                case 5:
                    data = (
                        data[:at]
                        + chance.choice((b"[", b'{"a":', b'"')) * chance.choice((1, 50, 9000))
                        + data[at:]
                    )
                case _ if at < len(data):
                    data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        return data

    # -- of classic devices

    def classic(self) -> Frame:
        """Give a frame of a classic device."""
        chance = self._chance.random()
        if chance < 0.002:
            return self._oversized()
        if chance < 0.004:
            return Frame(self._bytes(200), BINARY, last=True)
        if chance < 0.006:
            return Frame(b"\xff" + self._bytes(50), last=True)
        return Frame(self._words(500).encode())

    def _oversized(self) -> Frame:
        opcode = self._chance.choice((TEXT, BINARY))
        return Frame(b"x" * self._chance.choice((MAX_PAYLOAD + 1, 10 * MAX_PAYLOAD)), opcode, last=True)

    # -- below all dialects

    def request(self) -> bytes:
        """Give what a socket says in place of a request."""
        chance = self._chance
        good = handshake(f"id={self._words(5)}&lat=1&lon=1")
        match chance.randrange(6):
            case 0:
                return self._bytes(300)
            case 1:
                return good[: chance.randrange(len(good))]
            case 2:
                return b"GET " + b"/" * chance.choice((10, 20_000, 200_000)) + b" HTTP/1.1\r\n\r\n"
            case 3:
                return good[:-2] + b"X: y\r\n" * chance.choice((1, 300)) + b"\r\n"
            case 4:
                return handshake(self._words(200), path=self._words(30))
            case _:
                return self._mutated(good)

    def broken(self) -> bytes:
        """Give bytes that are no good frames; the edge may close because of them."""
        chance = self._chance
        match chance.randrange(9):
            case 0:
                return self._bytes(500)
            case 1:
                return encode(TEXT, self._bytes(50), mask=None)
            case 2:
                return encode(chance.choice((TEXT, BINARY)), b"abc", head=chance.choice((0x40, 0x90, 0xF0)))
            case 3:
                return encode(chance.choice((3, 7, 11, 15)), self._bytes(20))
            case 4:
                return encode(
                    BINARY, b"abc", length=chance.choice((2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1))
                )
            case 5:
                return (
                    encode(chance.choice((CLOSE, PING)), self._bytes(90), head=chance.choice((0, 0x80)))
                    + b"x" * 40
                )
            case 6:
                return encode(PING, b"x" * 126)
            case 7:
                return encode(TEXT, b"begun", head=0) + encode(chance.choice((0, TEXT)), self._bytes(9))
            case _:
                return encode(
                    CLOSE, struct.pack("!H", chance.choice((0, 999, 1005, 1006, 5000, 65535))) + b"\xff"
                )

    # -- what it is made of

    def _bytes(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randrange(most + 1))

    def _words(self, most: int) -> str:
        letters = self._chance.choice(("abc ", 'aé漢😀\n"\\', '{}[]:,"0'))
        return "".join(self._chance.choices(letters, k=self._chance.randrange(most + 1)))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def handshake(query: str, subprotocol: str = "", path: str = "/device/connect") -> bytes:
    """Make the request of a WebSocket."""
    offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offered}\r\n"
    ).encode(errors="replace")
