"""Sockets that send nonsense to an edge, many at once, one after the other."""

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable

from fuzz.frames import Frame, Nonsense, handshake

TOGETHER = 50  # frames in one write
LIFE = 1500  # frames of one connection, at most
PATIENCE = 20.0  # s for the edge to take what is written, or to answer
CODES = re.compile(rb'"type":"error","code":"(\w+)"')


class Fuzz:
    """All of them. `codes` counts the errors that the edge answered with."""

    def __init__(self, port: int, seed: int, frames: int) -> None:
        self.sent = 0
        self.connections: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.unasked: list[str] = []  # connections that the edge closed without a reason to
        self._port = port
        self._seed = seed
        self._frames = frames

    async def run(self, devices: int, strangers: int) -> None:
        """Send as many frames, by so many devices of each dialect and bare sockets at a time."""
        async with asyncio.TaskGroup() as group:
            for i in range(devices):
                group.create_task(self._devices(f"v1-{i}", "cloudmatch.v1"))
                group.create_task(self._devices(f"classic-{i}", ""))
            for i in range(strangers):
                group.create_task(self._strangers(f"stranger-{i}"))

    async def _devices(self, name: str, subprotocol: str) -> None:
        nonsense = Nonsense(f"{self._seed}/{name}")
        chance = random.Random(f"{self._seed}/{name}/life")  # noqa: S311  # no secret
        make = nonsense.v1 if subprotocol else nonsense.classic
        while self.sent < self._frames:
            dialect = subprotocol or "classic"
            self.connections[dialect] += 1
            # All of a dialect are in reach of each other, and change partners.
            query = f"id={name}-{self.connections[dialect]}&app={dialect}&lat=1&lon=1"
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(handshake(query, subprotocol))
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert answer.startswith(b"HTTP/1.1 101 "), answer
            hearing = asyncio.create_task(self._hear(reader))
            await self._life(name, writer, hearing, make, chance.randrange(LIFE))
            if chance.random() < 0.3:
                writer.transport.abort()
            await self._end(writer, hearing)

    async def _life(
        self,
        name: str,
        writer: asyncio.StreamWriter,
        hearing: asyncio.Task[bytes],
        make: Callable[[], Frame],
        frames: int,
    ) -> None:
        """Send so many frames of one connection, or up to one after which it may close."""
        last = False
        while frames > 0 and not last and self.sent < self._frames:
            batch: list[Frame] = []
            while len(batch) < TOGETHER and not last:
                batch.append(make())
                last = batch[-1].last
            writer.write(b"".join(frame.encoded() for frame in batch))
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(writer.drain(), PATIENCE)
            self.sent += len(batch)
            frames -= len(batch)
            await asyncio.sleep(0)
            if hearing.done() and not last:
                self.unasked.append(f"{name}: {hearing.result()!r}")
                return

    async def _strangers(self, name: str) -> None:
        nonsense = Nonsense(f"{self._seed}/{name}")
        chance = random.Random(f"{self._seed}/{name}/life")  # noqa: S311  # no secret
        while self.sent < self._frames:
            self.connections["stranger"] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            if chance.random() < 0.3:
                writer.write(nonsense.request())
            else:
                subprotocol = chance.choice(("", "cloudmatch.v1"))
                query = f"id={name}-{self.connections['stranger']}&app=strangers&lat=1&lon=1"
                writer.write(handshake(query, subprotocol) + nonsense.broken())
            self.sent += 1
            hearing = asyncio.create_task(self._hear(reader))
            await asyncio.wait({hearing}, timeout=chance.choice((0, 0.01, 0.1)))
            if chance.random() < 0.5:
                writer.transport.abort()
            await self._end(writer, hearing)

    async def _hear(self, reader: asyncio.StreamReader) -> bytes:
        """Count errors until the end; give what was heard last."""
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                heard = rest + data
                end = 0
                for match in CODES.finditer(heard):
                    self.codes[match[1].decode()] += 1
                    end = match.end()
                rest = heard[max(end, len(heard) - 60) :]
        return rest

    async def _end(self, writer: asyncio.StreamWriter, hearing: asyncio.Task[bytes]) -> None:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), PATIENCE)
        await asyncio.wait_for(hearing, PATIENCE)
