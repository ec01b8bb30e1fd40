"""Publish facts to a real bus; read what they count."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.provision import provision
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract.messages import AnyFact, DeliveriesCounted, PayloadsDelivered


class Delivered(NamedTuple):
    """Payloads that a fact counts."""

    sender: str
    receiver: str
    sizes: list[int]


def delivered(fact: AnyFact) -> Iterator[Delivered]:
    """Yield what a fact counts as delivered to a peer, whichever version of an edge has published it."""
    match fact:
        case DeliveriesCounted():
            for span in fact.spans:
                yield Delivered(span.sender, span.receiver, list(span.each_size()))
        case PayloadsDelivered():
            yield Delivered(fact.sender, fact.receiver, fact.sizes)


def bytes_delivered(fact: AnyFact) -> int:
    """Return how many bytes a fact counts as delivered."""
    return sum(sum(each.sizes) for each in delivered(fact))


class Facts:
    """Publishes facts: by `publisher` as services do, by `bus` for everything else."""

    def __init__(self, bus: Bus, publisher: FactPublisher) -> None:
        self.bus = bus
        self.publisher = publisher
        self.count = 0

    def payloads(self, *sizes: int) -> None:
        """Publish that payloads of these sizes went from a to b; `at` numbers these facts from 1."""
        self.count += 1
        fact = PayloadsDelivered(
            app="default", at=self.count, match=7, sender="a", receiver="b", sizes=list(sizes)
        )
        assert self.publisher.publish(fact)

    async def kept(self, deadline: float = 20) -> None:
        """Return once JetStream has stored everything that was published."""
        assert await self.publisher.drain(deadline) == 0


@contextlib.asynccontextmanager
async def facts(url: str) -> AsyncIterator[Facts]:
    """Connect to the NATS server at `url`, create streams and consumers, and publish until the end."""
    bus = await connect(NatsSettings(url=url), "test")
    await provision(bus, 1)
    publisher = FactPublisher(bus)
    sending = asyncio.create_task(publisher.run())
    try:
        yield Facts(bus, publisher)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        await bus.close()
