"""Many devices in one process: as little of `cloudmatch.v1`, or of the classic dialect, as a crowd needs."""

import asyncio
import json
import random
import socket
import struct
import time
from collections import Counter
from typing import Any
from urllib.parse import urlencode

BACKOFF = (0.1, 5.0)  # s, as in our own clients: the first pause after a lost connection, and the longest
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a closed socket sends a RST
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10  # opcodes


def _frame(opcode: int, payload: bytes) -> bytes:
    """A frame masked with zeros."""
    assert len(payload) < 126
    return bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload


class CrowdDevice(asyncio.Protocol):
    """A device that reconnects, and resumes its session, whenever its connection ends."""

    transport: asyncio.Transport

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self.name = f"{'ab'[number % 2]}{number // 2}"
        self.crowd = crowd
        self.connected = False
        self.open = False  # accepted
        self.back = False  # in its match
        self.token = ""
        self.match = 0
        self.peer_away = False
        self.received: list[str] = []
        self._tag = number // 2
        self._buffer = b""
        self._failures = 0
        self._leaving = False

    # -- connections

    async def connect(self) -> None:
        """Connect; if that fails, again after a pause."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, "127.0.0.1", self.crowd.port)
        except OSError:
            self._reconnect()

    def _reconnect(self) -> None:
        if not self._leaving:
            pause = min(BACKOFF[1], BACKOFF[0] * 2**self._failures) * random.uniform(0.5, 1)  # noqa: S311
            self._failures += 1
            loop = asyncio.get_running_loop()
            loop.call_later(pause, lambda: self.crowd.spawn(self.connect()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a stream it is a Transport
        self.connected = True
        query: dict[str, Any] = {"id": self.name, "lat": 52.37, "lon": 4.89, "tag": self._tag}
        if self.token:
            query |= {"resume": self.token, "received": len(self.received)}
            query |= {"match": self.match} if self.match else {}
        lines = [
            f"GET /device/connect?{urlencode(query)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.crowd.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *([] if self.crowd.classic else ["Sec-WebSocket-Protocol: cloudmatch.v1"]),
        ]
        self.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def connection_lost(self, _: Exception | None) -> None:
        self._buffer, self.connected, self.open = b"", False, False
        self._reconnect()

    def reset(self) -> None:
        """Break the connection, as a vanished process or a proxy does; connect again."""
        self.back = False
        raw: socket.socket = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def leave(self) -> None:
        """Close the connection for good."""
        self._leaving = True
        if not self.connected:
            return
        self.transport.write(_frame(CLOSE, (1000).to_bytes(2, "big")))
        self.transport.close()

    # -- frames

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.open:
            head, found, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.crowd.refused[head.split(b"\r\n")[0].decode()] += 1
                self.transport.close()
                return
            self.open = True
        while len(self._buffer) >= 2:
            size, at = self._buffer[1], 2
            if size == 126:
                size, at = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < at + size:
                return
            opcode, payload = self._buffer[0] & 15, self._buffer[at : at + size]
            self._buffer = self._buffer[at + size :]
            self._on_frame(opcode, payload)

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(_frame(PONG, payload))
        elif opcode == CLOSE:
            self.crowd.closed[int.from_bytes(payload[:2], "big")] += 1
            self.transport.close()
        elif opcode == TEXT and not self.crowd.classic:
            self._on_message(json.loads(payload))

    def _on_message(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        self.crowd.messages[kind] += 1
        match kind:
            case "welcome":
                self.token = message["resume"]
            case "matched" | "resumed":
                if kind == "matched" or self.match != message["match"]:
                    self.received.clear()
                if kind == "matched" and self.match:
                    self.crowd.lost += 1
                self.match = message["match"]
                self.peer_away, self.back, self._failures = False, True, 0
                self._ack()
            case "peer_away" | "peer_back":
                self.peer_away = kind == "peer_away"
            case "message":
                self.received.append(message["text"])
                self._ack()
            case "waiting" if self.match:
                self.crowd.lost += 1

    def _ack(self) -> None:
        self._write({"type": "ack", "received": len(self.received), "match": self.match})

    def send(self, text: str) -> None:
        """Send a payload to the peer."""
        self._write({"type": "message", "text": text})

    def _write(self, message: dict[str, Any]) -> None:
        self.transport.write(_frame(TEXT, json.dumps(message).encode()))


class Crowd:
    """The devices of one edge, in pairs."""

    def __init__(self, port: int, count: int, *, classic: bool = False) -> None:
        self.port, self.classic = port, classic
        self.devices = [CrowdDevice(self, number) for number in range(count)]
        self.messages: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self.lost = 0  # matches
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        """Keep a task until it ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def back(self) -> int:
        """How many devices are in their match."""
        return sum(device.back for device in self.devices)

    async def until_back(self, deadline: float) -> float:
        """Wait until all devices are in their match; return the seconds that took."""
        return await self.until(lambda: self.back == len(self.devices), deadline)

    async def until(self, condition: Any, deadline: float) -> float:
        """Wait for a condition, at most `deadline` seconds; return the seconds that took."""
        began = time.monotonic()
        while not condition() and time.monotonic() - began < deadline:  # noqa: ASYNC110  # a bench
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def leave(self) -> None:
        """Close all connections for good."""
        for device in self.devices:
            device.leave()
        await self.until(lambda: not any(device.connected for device in self.devices), 10)

    async def connect(self, concurrently: int = 64) -> None:
        """Connect all devices, so many at a time."""
        devices = iter(self.devices)

        async def one_by_one() -> None:
            for device in devices:
                await device.connect()
                await self.until(lambda device=device: device.open, 30)

        await asyncio.gather(*(one_by_one() for _ in range(concurrently)))
