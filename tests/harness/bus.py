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
