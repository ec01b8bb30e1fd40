"""The journal's place in the stream EVENTS: where it goes on reading, whatever happened to the stream.

The stream may have dropped facts that were not read yet. It may have been created again, or restored from an
older copy: then its sequences stand for other facts than those that the journal knows by them, and what they
have in common is searched. Positions in the journal go on growing: from then on they are sequences plus an
offset.
"""

import logging
from collections.abc import Callable
from typing import Literal

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.history import history
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.fact import FactsLost
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_journal.core.erasure import is_erased
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.store import Store

log = logging.getLogger("place")

APP = "default"


class Place:
    """Where to go on reading, for `Follower`.

    Args:
        publish: publish that facts are lost.
    """

    def __init__(self, bus: Bus, store: Store, ledger: Ledger, publish: Callable[[FactsLost], bool]) -> None:
        self._bus = bus
        self._store = store
        self._ledger = ledger
        self._publish = publish

    def report_damage(self) -> None:
        """Publish which parts of the journal are damaged."""
        for low, high in self._store.holes:
            self._report(low, high, None, "damaged")

    async def resume(self, sequence: int) -> int:
        """Return the sequence behind which to read, when everything up to `sequence` was read.

        Raises:
            TimeoutError: the bus does not answer.
            nats.errors.Error: there is no such stream now.
        """
        if not self._store.position:
            return sequence
        info = await self._bus.jetstream().stream_info(streams.EVENTS)
        first, last = info.state.first_seq, info.state.last_seq
        stored = self._store.position - self._store.offset
        if sequence > last or not await self._agrees(stored):
            return await self._restored(first, min(stored, last))
        if first <= sequence + 1:
            return sequence
        created = (info.config.first_seq or 0) > sequence
        missing = None if created else first - 1 - sequence
        offset = self._store.offset
        self._report(sequence + offset, first + offset, missing, "created" if created else "expired")
        return first - 1

    async def _restored(self, first: int, last: int) -> int:
        """Find the last message that stream and journal have in common; go on behind it."""
        common = first - 1
        while common < last:
            middle = (common + last + 1) // 2
            if await self._agrees(middle):
                common = middle
            else:
                last = middle - 1
        position = max(self._store.position, self._ledger.position)
        self._store.offset = position - common
        self._report(position, position + 1, None, "restored" if common >= first else "created")
        return common

    async def _agrees(self, sequence: int) -> bool:
        """Whether stream and journal have the same at a sequence, as far as that can be known."""
        position = sequence + self._store.offset
        try:
            known = self._store.event(position)
        except StoreError:
            return True
        if known is None and position == self._store.position:
            return True  # it is damaged
        found = [fact async for batch in history(self._bus, sequence - 1, sequence) for _, fact in batch]
        if not found or found[0] == known:
            return True
        return known is not None and found[0] is not None and is_erased(known, found[0])

    def _report(
        self,
        low: int,
        high: int,
        missing: int | None,
        reason: Literal["expired", "created", "restored", "damaged"],
    ) -> None:
        log.error("facts are lost between positions %d and %d: %s", low, high, _WHY[reason])
        if not self._ledger.knows_loss(low, high, reason):
            lost = FactsLost(app=APP, at=now_ms(), low=low, high=high, missing=missing, reason=reason)
            self._publish(lost)


_WHY = {
    "expired": "they left EVENTS before they were read",
    "created": "EVENTS was created again",
    "restored": "EVENTS was restored from an older copy",
    "damaged": "a part of the journal is damaged",
}
