"""Connections to a real NATS server, for tests of the bus."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from prometheus_client import REGISTRY

from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.provision import ensure_provisioned
from cloudmatch_bus.client.settings import NatsSettings


@contextlib.asynccontextmanager
async def connected(url: str, *, fast: bool = True) -> AsyncIterator[Bus]:
    """Connect to the server at `url` and provision it, again after each reconnection."""
    bus = await connect(NatsSettings(url=url, lane=fast), "test")
    try:
        await ensure_provisioned(bus, 1)
        bus.on_reconnect.append(lambda: ensure_provisioned(bus, 1))
        yield bus
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work`, which must not end within this context."""
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), "the work ended before it was stopped"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def counted(name: str) -> float:
    """Return the value of a counter of this process."""
    return REGISTRY.get_sample_value(name) or 0.0


class Stranger:
    """A client of NATS that sends any bytes at all."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def publish(self, subject: bytes, payload: bytes, reply: bytes = b"", head: bytes | None = None) -> None:
        """Publish a message; `head`: with these headers, as they are."""
        to = b"%s %s " % (subject, reply)
        if head is None:
            line = b"PUB %s%d" % (to, len(payload))
        else:
            line = b"HPUB %s%d %d" % (to, len(head), len(head) + len(payload))
        self._writer.write(line + b"\r\n" + (head or b"") + payload + b"\r\n")


@contextlib.asynccontextmanager
async def stranger(url: str) -> AsyncIterator[Stranger]:
    """Connect a stranger to the server at `url`."""
    host, _, port = url.removeprefix("nats://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    try:
        yield Stranger(writer)
    finally:
        writer.close()
        await writer.wait_closed()
