"""Publish facts to a real bus; read what they count."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.provision import provision
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract.messages import AnyFact, PayloadsDelivered
from cloudmatch_journal.core.grants import Grants
from cloudmatch_journal.core.ledger import Ledger


class Books:
    """What facts say was delivered: what they count, and what the journal grants of what they only claim."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._devices: dict[tuple[str, str], None] = {}

    def fold(self, position: int, fact: AnyFact) -> None:
        """Add a fact."""
        self._ledger.fold(position, fact)
        self._devices |= dict.fromkeys((fact.app, device) for device in fact.devices)

    @property
    def bytes_delivered(self) -> int:
        """Bytes that were or will be counted, each once."""
        states = [self._ledger.device(*each) for each in self._devices]
        grants = Grants(self._ledger, incarnation=1, grace=0.0)
        granted = [span.bytes for fact in grants.grant(grants.due(0), 0) for span in fact.spans]
        return sum(state.bytes_received for state in states if state is not None) + sum(granted)

    @property
    def counted_twice(self) -> int:
        """Payloads that facts count again."""
        return self._ledger.repeated


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
