"""Publish sizes to analytics, and read its windows."""

import contextlib
import itertools
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange

from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.deliveries import Span, span
from cloudmatch_bus.contract.messages import DeliveriesCounted, DeviceForgotten, encode
from harness.services import Service

_positions = itertools.count(time.time_ns())  # of facts in EVENTS, all different


class Publisher:
    """Publishes the sizes of one app, as bridge-rabbit does."""

    def __init__(
        self, channel: AbstractChannel, exchange: AbstractExchange, batches: AbstractExchange, app: str
    ) -> None:
        self.channel, self.exchange, self.batches, self.app = channel, exchange, batches, app

    async def batch(
        self,
        sizes: Mapping[str, Sequence[int]],
        ago: float = 0.0,
        message_id: str = "",
        at: int = 0,
        app: str = "",
    ) -> int:
        """Publish a batch of sizes by sender, `ago` seconds before now or at `at`; return its time."""
        at = at or time.time_ns() // 10**6 - int(1000 * ago)
        spans = [span(sender, "bob", 7, 0, each) for sender, each in sizes.items()]
        await self.raw_batch(encoded_batch(spans, app or self.app, at), message_id or f"{next(_positions)}")
        return at

    async def raw_batch(self, body: bytes, message_id: str | None = None) -> None:
        """Publish any body where batches are expected."""
        message = aio_pika.Message(
            body, message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        await self.batches.publish(message, routing_key=self.app)

    async def forget(self, device: str) -> None:
        """Ask to erase a device, as bridge-rabbit does."""
        fact = DeviceForgotten(app=self.app, at=time.time_ns() // 10**6, device=device)
        queue = await amqp_forgotten.declare(self.channel, "classic")
        message = aio_pika.Message(encode(fact), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self.channel.default_exchange.publish(message, queue.name)

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
        queue = await amqp.declare(channel, "classic")
        await queue.bind(amqp.EXCHANGE, "#")  # as bridges of former versions do
        await amqp_batches.declare(channel, "classic")
        exchanges = [await channel.get_exchange(name) for name in (amqp.EXCHANGE, amqp_batches.EXCHANGE)]
        yield Publisher(channel, *exchanges, app)


def encoded_batch(spans: Sequence[Span], app: str, at: int) -> bytes:
    """Encode a batch as bridge-rabbit publishes it."""
    fact = DeliveriesCounted(app=app, at=at, source="edge-0", incarnation=1, number=1, spans=list(spans))
    return encode(fact)


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
