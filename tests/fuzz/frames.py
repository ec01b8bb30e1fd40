"""Valid and mutated frames of a dialect, and bytes that are not frames; determined by a seed."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MAX_PAYLOAD = 256 * 1024  # bytes, the edge's setting
MAX_TEXT = 6 * MAX_PAYLOAD  # bytes of a text frame that the edge reads without closing the connection
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
DEVICE_MESSAGES = ("message", "ack", "unmatch", "locate", "leave", "ping")
SERVER_MESSAGES = ("welcome", "waiting", "matched", "resumed", "receipt", "peer_left", "gap", "error", "pong")
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
    """A frame from a device. `last`: the edge may close the connection because of it."""

    data: bytes
    opcode: int = TEXT
    last: bool = False

    def encoded(self) -> bytes:
        """Return its bytes on the wire."""
        return encode(self.opcode, self.data)


def encode(
    opcode: int, data: bytes, head: int = 0x80, mask: bytes | None = bytes(4), length: int = -1
) -> bytes:
    """Encode a WebSocket frame, valid or not.

    Args:
        head: FIN and reserved bits.
        mask: masking key; None: the frame is not masked.
        length: written as the payload's length; -1: its actual length.
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


class FrameGenerator:
    """A source of frames, valid and malformed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311  # not a secret

    # -- cloudmatch.v1

    def v1(self) -> Frame:
        """Return a frame from a cloudmatch.v1 device."""
        chance = self._random.random()
        if chance < 0.001:
            return self._oversized()
        if chance < 0.08:
            return Frame(self._bytes(2000), BINARY)
        if chance < 0.1:
            return Frame(self._bytes(125), self._random.choice((PING, PONG)))
        if chance < 0.15:
            return Frame(self._words(200).encode())
        message = self._message()
        data = json.dumps(message, ensure_ascii=self._random.random() < 0.5).encode(errors="surrogatepass")
        if self._random.random() < 0.5:
            data = self._mutated(data)
        if self._random.random() < 0.999:
            data = data.decode(errors="replace").encode()
        return Frame(data, last=b"leave" in data or len(data) > MAX_TEXT or not _is_utf8(data))

    def _message(self) -> Any:
        rng = self._random
        kind = rng.choices(
            (*DEVICE_MESSAGES, *SERVER_MESSAGES, self._words(20)),
            (30, 20, 0.3, 10, 0.05, 10, *(1 for _ in SERVER_MESSAGES), 2),
        )[0]
        message: dict[str, Any] = {"type": kind}
        match kind:
            case "message":
                message["text"] = self._words(300) if rng.random() < 0.99 else "é" * MAX_PAYLOAD
                if rng.random() < 0.3:
                    message["ref"] = self._words(rng.choice((5, 5, 200)))
            case "ack":
                message["received"] = rng.choice(NUMBERS)
                if rng.random() < 0.05:  # from then on the edge ignores acks without a match
                    message["match"] = rng.choice(NUMBERS)
            case "locate":
                message |= {"lat": rng.uniform(-100, 100), "lon": rng.uniform(-200, 200)}
        while rng.random() < 0.3:
            name = rng.choice((*message, "type", "text", "received", "ref", "lat", "match", self._words(8)))
            message[name] = self._value()
        if rng.random() < 0.05 and len(message) > 1:
            del message[rng.choice(list(message))]
        return message if rng.random() < 0.97 else self._value()

    def _value(self) -> Any:
        rng = self._random
        make: Callable[[], Any] = rng.choice(
            (
                lambda: rng.choice(NUMBERS),
                lambda: rng.choice((None, True, False, [], {}, "", "\ud800", "\x00")),
                lambda: self._words(50),
                lambda: self._deep(rng.choice((2, 20, 900))),
                lambda: {self._words(5): self._words(5) for _ in range(rng.randrange(30))},
            )
        )
        return make()

    def _deep(self, depth: int) -> Any:
        value: Any = 0
        for _ in range(depth):
            value = [value] if self._random.random() < 0.5 else {"a": value}
        return value

    def _mutated(self, data: bytes) -> bytes:
        rng = self._random
        for _ in range(rng.choice((1, 1, 2, 8))):
            at, to = sorted(rng.randint(0, len(data)) for _ in "<>")
            match rng.randrange(7):
                case 0:
                    data = data[:at] + self._bytes(3) + data[at:]
                case 1:
                    data = data[:at] + data[to:]
                case 2:
                    data = data[:to] + data[at:]
                case 3:
                    data = data[:at]
                case 4:
                    data = data[:at] + rng.choice(TOKENS) + data[at:]
                case 5:
                    data = (
                        data[:at] + rng.choice((b"[", b'{"a":', b'"')) * rng.choice((1, 50, 9000)) + data[at:]
                    )
                case _ if at < len(data):
                    data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        return data

    # -- classic

    def classic(self) -> Frame:
        """Return a frame from a classic device."""
        chance = self._random.random()
        if chance < 0.002:
            return self._oversized()
        if chance < 0.004:
            return Frame(self._bytes(200), BINARY, last=True)
        if chance < 0.006:
            return Frame(b"\xff" + self._bytes(50), last=True)
        return Frame(self._words(500).encode())

    def _oversized(self) -> Frame:
        opcode = self._random.choice((TEXT, BINARY))
        return Frame(b"x" * self._random.choice((MAX_PAYLOAD + 1, 10 * MAX_PAYLOAD)), opcode, last=True)

    # -- below the dialects

    def request(self) -> bytes:
        """Return a malformed request for a WebSocket."""
        rng = self._random
        valid = handshake(f"id={self._words(5)}&lat=1&lon=1")
        match rng.randrange(6):
            case 0:
                return self._bytes(300)
            case 1:
                return valid[: rng.randrange(len(valid))]
            case 2:
                return b"GET " + b"/" * rng.choice((10, 20_000, 200_000)) + b" HTTP/1.1\r\n\r\n"
            case 3:
                return valid[:-2] + b"X: y\r\n" * rng.choice((1, 300)) + b"\r\n"
            case 4:
                return handshake(self._words(200), path=self._words(30))
            case _:
                return self._mutated(valid)

    def broken(self) -> bytes:
        """Return bytes that are not valid frames; the edge may close the connection because of them."""
        rng = self._random
        match rng.randrange(9):
            case 0:
                return self._bytes(500)
            case 1:
                return encode(TEXT, self._bytes(50), mask=None)
            case 2:
                return encode(rng.choice((TEXT, BINARY)), b"abc", head=rng.choice((0x40, 0x90, 0xF0)))
            case 3:
                return encode(rng.choice((3, 7, 11, 15)), self._bytes(20))
            case 4:
                return encode(BINARY, b"abc", length=rng.choice((2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1)))
            case 5:
                return (
                    encode(rng.choice((CLOSE, PING)), self._bytes(90), head=rng.choice((0, 0x80))) + b"x" * 40
                )
            case 6:
                return encode(PING, b"x" * 126)
            case 7:
                return encode(TEXT, b"begun", head=0) + encode(rng.choice((0, TEXT)), self._bytes(9))
            case _:
                return encode(
                    CLOSE, struct.pack("!H", rng.choice((0, 999, 1005, 1006, 5000, 65535))) + b"\xff"
                )

    # -- building blocks

    def _bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randrange(most + 1))

    def _words(self, most: int) -> str:
        letters = self._random.choice(("abc ", 'aé漢😀\n"\\', '{}[]:,"0'))
        return "".join(self._random.choices(letters, k=self._random.randrange(most + 1)))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def handshake(query: str, subprotocol: str = "", path: str = "/device/connect") -> bytes:
    """Return the opening request of a WebSocket."""
    offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offered}\r\n"
    ).encode(errors="replace")
