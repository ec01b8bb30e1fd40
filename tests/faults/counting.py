"""The services that count, beside the stack under test, and the bytes that each of them has counted."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from cloudmatch_bus.contract import amqp_batches
from harness import Service, kafka_broker, rabbitmq, service

EVERY_WINDOW = "/windows?size=10s&last=8640"
POLL = 0.5  # s


class Batches:
    """What RabbitMQ gets: the sizes of each batch once, however often it is delivered."""

    def __init__(self) -> None:
        self._bytes: dict[str | None, int] = {}  # by message id

    async def add(self, message: AbstractIncomingMessage) -> None:
        """Account for a message of the exchange of batches."""
        spans = amqp_batches.decode(message.body).spans
        self._bytes[message.message_id] = sum(span.bytes for span in spans)

    @property
    def bytes(self) -> int:
        """Bytes in all batches."""
        return sum(self._bytes.values())


class Counting:
    """Journal, bridge, RabbitMQ and analytics on one bus."""

    def __init__(self, journal: Service, analytics: Service, batches: Batches) -> None:
        self._journal = journal
        self._analytics = analytics
        self._batches = batches

    def sums(self, devices: Sequence[str]) -> tuple[dict[str, int], int]:
        """Return the bytes that devices sent, as each service has counted them so far, and the payloads, as
        the journal has."""
        states = [self._state(device) for device in devices]
        windows = self._analytics.get_json(EVERY_WINDOW)
        sums = {
            "RabbitMQ": self._batches.bytes,
            "journal": sum(state.get("bytesSent", 0) for state in states),
            "windows": sum(window["bytes"] for window in windows),
        }
        return sums, sum(state.get("messagesSent", 0) for state in states)

    def _state(self, device: str) -> dict[str, int]:
        status, text = self._journal.get(f"/device/state/{device}")
        return json.loads(text) if status == 200 else {}

    async def settled(
        self, devices: Sequence[str], expected: int, patience: float
    ) -> tuple[dict[str, int], int]:
        """Return the sums once all bytes are as expected, or nothing has changed for `patience` seconds."""
        sums: tuple[dict[str, int], int] = {}, 0
        changed = time.monotonic()
        while time.monotonic() - changed < patience and set(sums[0].values()) != {expected}:
            before, sums = sums, await asyncio.to_thread(self.sums, devices)
            if sums != before:
                changed = time.monotonic()
            await asyncio.sleep(POLL)
        return sums

    @property
    def unaccounted(self) -> int:
        """Payloads known to be delivered, whose sizes nobody knows any more."""
        return int(self._journal.metric("cloudmatch_journal_unaccounted_payloads"))

    @property
    def counted_twice(self) -> int:
        """Payloads that RabbitMQ got twice, under different ids."""
        return int(self._journal.metric("cloudmatch_journal_counted_twice_payloads"))


@contextlib.asynccontextmanager
async def counting(bus: dict[str, str]) -> AsyncIterator[Counting]:
    """Run the services that count, on the bus of these settings."""
    with contextlib.ExitStack() as servers:
        node = await asyncio.to_thread(servers.enter_context, rabbitmq())
        kafka = await asyncio.to_thread(servers.enter_context, kafka_broker())
        settings = {
            **bus,
            "CLOUDMATCH_AMQP_URL": node.url,
            "CLOUDMATCH_BRIDGE_RABBIT_SINGLES": "false",
            **kafka.settings,
        }
        async with await aio_pika.connect(node.url) as connection:
            batches = await _collect(await connection.channel())
            with contextlib.ExitStack() as services:
                started = [
                    asyncio.to_thread(services.enter_context, service(name, settings, deadline=60))
                    for name in ("journal", "bridge-rabbit", "analytics")
                ]
                journal, _, analytics = await asyncio.gather(*started)
                try:
                    yield Counting(journal, analytics, batches)
                finally:
                    await asyncio.to_thread(services.close)


async def _collect(channel: AbstractChannel) -> Batches:
    """Collect all batches that will be published."""
    batches = Batches()
    await amqp_batches.declare(channel, "classic")
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(amqp_batches.EXCHANGE, "#")
    await queue.consume(batches.add, no_ack=True)
    return batches
