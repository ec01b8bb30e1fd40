"""Many concurrent connections, opened again and again, that send malformed frames to an edge."""

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable

from fuzz.frames import Frame, FrameGenerator, handshake

FRAMES_PER_WRITE = 50  # frames in one write
MAX_FRAMES = 1500  # per connection
PATIENCE = 20.0  # s for the edge to read what is written, or to answer
CODES = re.compile(rb'"type":"error","code":"(\w+)"')


class Fuzz:
    """A run of the fuzzer. `codes` counts the error messages of the edge."""

    def __init__(self, port: int, seed: int, frames: int) -> None:
        self.sent = 0
        self.connections: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.unexpected_closes: list[str] = []  # connections that the edge closed without a reason
        self._port = port
        self._seed = seed
        self._frames = frames

    async def run(self, devices: int, raw_sockets: int) -> None:
        """Send all frames, over so many concurrent devices of each dialect and sockets without one."""
        async with asyncio.TaskGroup() as group:
            for i in range(devices):
                group.create_task(self._devices(f"v1-{i}", "cloudmatch.v1"))
                group.create_task(self._devices(f"classic-{i}", ""))
            for i in range(raw_sockets):
                group.create_task(self._raw_sockets(f"raw-{i}"))

    async def _devices(self, name: str, subprotocol: str) -> None:
        frames = FrameGenerator(f"{self._seed}/{name}")
        rng = random.Random(f"{self._seed}/{name}/life")  # noqa: S311  # not a secret
        make = frames.v1 if subprotocol else frames.classic
        while self.sent < self._frames:
            dialect = subprotocol or "classic"
            self.connections[dialect] += 1
            # All devices of a dialect are within reach of each other, and change their peers.
            query = f"id={name}-{self.connections[dialect]}&app={dialect}&lat=1&lon=1"
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(handshake(query, subprotocol))
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert answer.startswith(b"HTTP/1.1 101 "), answer
            reading = asyncio.create_task(self._read_errors(reader))
            await self._send_frames(name, writer, reading, make, rng.randrange(MAX_FRAMES))
            if rng.random() < 0.3:
                writer.transport.abort()
            await self._end(writer, reading)

    async def _send_frames(
        self,
        name: str,
        writer: asyncio.StreamWriter,
        reading: asyncio.Task[bytes],
        make: Callable[[], Frame],
        frames: int,
    ) -> None:
        """Send frames on one connection, at most up to one after which the edge may close it."""
        last = False
        while frames > 0 and not last and self.sent < self._frames:
            batch: list[Frame] = []
            while len(batch) < FRAMES_PER_WRITE and not last:
                batch.append(make())
                last = batch[-1].last
            writer.write(b"".join(frame.encoded() for frame in batch))
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(writer.drain(), PATIENCE)
            self.sent += len(batch)
            frames -= len(batch)
            await asyncio.sleep(0)
            if reading.done() and not last:
                self.unexpected_closes.append(f"{name}: {reading.result()!r}")
                return

    async def _raw_sockets(self, name: str) -> None:
        frames = FrameGenerator(f"{self._seed}/{name}")
        rng = random.Random(f"{self._seed}/{name}/life")  # noqa: S311  # not a secret
        while self.sent < self._frames:
            self.connections["raw"] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            if rng.random() < 0.3:
                writer.write(frames.request())
            else:
                subprotocol = rng.choice(("", "cloudmatch.v1"))
                query = f"id={name}-{self.connections['raw']}&app=raw&lat=1&lon=1"
                writer.write(handshake(query, subprotocol) + frames.broken())
            self.sent += 1
            reading = asyncio.create_task(self._read_errors(reader))
            await asyncio.wait({reading}, timeout=rng.choice((0, 0.01, 0.1)))
            if rng.random() < 0.5:
                writer.transport.abort()
            await self._end(writer, reading)

    async def _read_errors(self, reader: asyncio.StreamReader) -> bytes:
        """Count error messages until the connection ends; return what was received last."""
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                received = rest + data
                end = 0
                for match in CODES.finditer(received):
                    self.codes[match[1].decode()] += 1
                    end = match.end()
                rest = received[max(end, len(received) - 60) :]
        return rest

    async def _end(self, writer: asyncio.StreamWriter, reading: asyncio.Task[bytes]) -> None:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), PATIENCE)
        await asyncio.wait_for(reading, PATIENCE)
