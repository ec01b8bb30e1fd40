"""Publish sizes to analytics, and read its windows."""

import contextlib
import itertools
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange

from cloudmatch_bus.contract import amqp
from cloudmatch_bus.contract.amqp import SizeMessage
from harness.services import Service

_positions = itertools.count(time.time_ns())  # of facts in EVENTS, all different


class Publisher:
    """Publishes the sizes of one app, as bridge-rabbit does."""

    def __init__(self, channel: AbstractChannel, exchange: AbstractExchange, app: str) -> None:
        self.channel, self.exchange, self.app = channel, exchange, app

    async def size(
        self,
        amount: int,
        sender: str = "alice",
        ago: float = 0.0,
        message_id: str = "",
        at: int = 0,
        app: str = "",
    ) -> int:
        """Publish one size at `ago` seconds before now, or at `at`; return its time (ms since 1970)."""
        at = at or time.time_ns() // 10**6 - int(1000 * ago)
        message_id = message_id or f"{next(_positions)}.0"
        size = SizeMessage(amount, app or self.app, sender, "bob", 7, at, message_id).encode()
        await self.raw(size.body, size.headers, message_id)
        return at

    async def raw(
        self, body: bytes, headers: dict[str, Any] | None = None, message_id: str | None = None
    ) -> None:
        """Publish any body and headers."""
        message = aio_pika.Message(
            body, headers=headers, message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        await self.exchange.publish(message, routing_key="demo.alice")


@contextlib.asynccontextmanager
async def publishing(amqp_url: str, app: str = "demo") -> AsyncIterator[Publisher]:
    """Connect to RabbitMQ and declare exchanges and queues."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await amqp.declare(channel, "classic")
        yield Publisher(channel, await channel.get_exchange(amqp.EXCHANGE), app)


def sums(service: Service, query: str = "") -> tuple[int, int]:
    """Return bytes and messages of all closed windows of 10 s."""
    windows = service.get_json(f"/windows?size=10s&last=8640&{query}")
    return sum(w["bytes"] for w in windows), sum(w["messages"] for w in windows)


@contextlib.contextmanager
def events(service: Service, query: str = "") -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """Read the Server-Sent Events of /windows/live, as (event, data)."""
    with urllib.request.urlopen(f"{service.url}/windows/live?{query}", timeout=20) as answer:  # noqa: S310 # loopback

        def read() -> Iterator[tuple[str, dict[str, Any]]]:
            name = ""
            for line in answer:
                field, _, value = line.decode().strip().partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

        yield read()
