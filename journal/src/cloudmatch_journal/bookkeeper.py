"""Publish what claims say was delivered and nobody has counted: the shell around `core.grants`."""

import asyncio
import logging
import secrets
import time

from prometheus_client import Counter

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.follower import Follower
from cloudmatch_bus.client.history import position_range
from cloudmatch_bus.client.publisher import ORIGIN, publish_once
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeliveriesCounted
from cloudmatch_journal.core.grants import Grants
from cloudmatch_journal.core.ledger import Ledger

log = logging.getLogger("bookkeeper")

INTERVAL = 0.5  # s between two looks at the claims
POLL = 0.02  # s between two looks at how far was read

_granted = Counter(
    "cloudmatch_journal_granted_payloads", "Payloads that were claimed and not counted by others"
)


class Bookkeeper:
    """Grants what is due, once everything that was stored before is folded into the ledger.

    A grant is published once, and not by `FactPublisher`, which would send it again: the only proof that it
    is stored is that it comes back. If it does not, it is decided again.
    """

    def __init__(self, bus: Bus, follower: Follower, ledger: Ledger, grace: float) -> None:
        self._bus = bus
        self._follower = follower
        self._origin = secrets.token_hex(ORIGIN)
        self._grants = Grants(ledger, time.time_ns() // 1000, grace)

    async def run(self) -> None:
        """Grant until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            due = self._grants.due(time.monotonic())
            if due and await self._caught_up():
                payloads = sum(map(self._publish, self._grants.grant(due, time.monotonic())))
                if payloads:
                    log.info("payloads counted that were only claimed: %d", payloads)

    async def _caught_up(self) -> bool:
        """Return once everything that is stored now has been read; False if the connection is lost."""
        try:
            _, last = await position_range(self._bus)
        except TimeoutError:
            return False
        while self._bus.connected and self._follower.position < last:  # noqa: ASYNC110  # nobody waits for a grant
            await asyncio.sleep(POLL)
        return self._bus.connected

    def _publish(self, fact: DeliveriesCounted) -> int:
        """Publish a grant; return how many payloads it counts, 0 if that is not possible now."""
        first, payloads = fact.spans[0], sum(span.payloads for span in fact.spans)
        # the same for the same payloads, and known to nobody else
        message_id = f"{self._origin}-{first.match}-{subjects.token(first.sender)}-{first.first}"
        if not publish_once(self._bus, fact, message_id):
            return 0
        _granted.inc(payloads)
        return payloads
