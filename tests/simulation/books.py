"""The stream of facts, and the journal that keeps the books: what is counted, claimed, and granted."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from cloudmatch_bus.contract.messages import (
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    MatchMade,
)
from cloudmatch_bus.process.clock import monotonic
from cloudmatch_journal.core.grants import Grants
from cloudmatch_journal.core.ledger import Ledger

CLAIM_GRACE = 10.0  # s after a claim until what nobody has counted of it is granted; as short as it may be
INTERVAL = 0.5  # s between two looks at the claims
ACK_TIMEOUT = 1.0  # s until a fact is sent again
ARRIVAL = 0.02  # s at most until a fact is stored

Direction = tuple[int, str]  # match, sender


class Books:
    """The real ledger of all facts, folded as they are stored; and what they count, payload by payload."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.sizes: dict[Direction, dict[int, int]] = defaultdict(dict)  # by number of the payload
        self.granted = 0  # payloads
        self.matches: dict[str, MatchMade] = {}  # by key
        self._grants = Grants(self.ledger, 1, CLAIM_GRACE)

    async def keep(self) -> None:
        """Grant what is due until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            for fact in self._grants.grant(self._grants.due(monotonic()), monotonic()):
                self.granted += sum(span.payloads for span in fact.spans)
                self.publish(fact)

    def publish(self, fact: Any, key: str = "") -> bool:
        """Store a fact: one of several with the same key."""
        if key in self.matches:
            return True
        self.ledger.fold(self.ledger.position + 1, fact)
        match fact:
            case DeliveriesCounted():
                for span in fact.spans:
                    for number, size in enumerate(span.each_size(), span.first):
                        self._count((span.match, span.sender), number, size)
            case MatchMade():
                self.matches[key] = fact
        return True

    def _count(self, direction: Direction, number: int, size: int) -> None:
        counted = self.sizes[direction]
        assert number not in counted, f"payload {number} of {direction} is counted twice"
        counted[number] = size

    def unaccounted(self, match: int, sender: str) -> int:
        """Return how many payloads are known to be delivered, of unknown size."""
        state = self.ledger.match(match)
        return sum(d.unaccounted for d in state.directions if d.sender == sender) if state else 0


class Publisher:
    """The publisher of an edge: facts and JetStream's acks may be lost, and are late while it is cut off.

    What an edge had sent when it was killed may be stored or not.
    """

    def __init__(self, books: Books, bus: Any, chance: random.Random) -> None:
        self._books = books
        self._bus = bus
        self._chance = chance

    def publish(self, fact: AnyFact, key: str = "") -> bool:
        """Publish a fact that is not about sizes."""
        assert not isinstance(fact, DeliveriesCounted | DeliveriesClaimed)
        return True

    def store(
        self,
        fact: AnyFact,
        on_stored: Callable[[], None],
        substitute: Callable[[], AnyFact] | None = None,
        within: float = float("inf"),
    ) -> None:
        """Publish a fact until it is stored."""
        _Storing(
            self._books, self._bus, self._chance, fact, on_stored, substitute, monotonic() + within
        ).send()


class _Storing:
    """A fact on its way to the stream."""

    def __init__(
        self,
        books: Books,
        bus: Any,
        chance: random.Random,
        fact: AnyFact,
        on_stored: Callable[[], None],
        substitute: Callable[[], AnyFact] | None,
        substitute_at: float,
    ) -> None:
        self._books, self._bus, self._chance = books, bus, chance
        self._fact, self._on_stored = fact, on_stored
        self._substitute, self._substitute_at = substitute, substitute_at
        self._known: list[AnyFact] = []  # which the stream has: it stores each once
        self._done = False

    def send(self) -> None:
        """Send it, again until it is acknowledged."""
        if self._done or not self._bus.alive:
            return
        loop = asyncio.get_running_loop()
        if self._substitute is not None and monotonic() > self._substitute_at:
            self._fact, self._substitute = self._substitute(), None
        troubled = self._bus.trouble
        if self._bus.cut_for:
            loop.call_later(self._bus.cut_for, self.send)
            return
        loop.call_later(ACK_TIMEOUT, self.send)
        if not troubled or self._chance.random() < 0.99:
            loop.call_later(self._chance.random() * ARRIVAL, self._arrive, self._fact)

    def _arrive(self, fact: AnyFact) -> None:
        if not self._bus.alive and self._chance.random() < 0.5:
            return
        if fact not in self._known:
            self._known.append(fact)
            self._books.publish(fact)
        if self._bus.alive and not self._done and (not self._bus.trouble or self._chance.random() < 0.99):
            self._done = True
            self._on_stored()
