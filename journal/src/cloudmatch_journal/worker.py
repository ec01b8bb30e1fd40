"""The journal's process: follow the facts, keep them, fold them, answer about them."""

import asyncio
import logging
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from cloudmatch_bus import http
from cloudmatch_bus.connection import Bus
from cloudmatch_bus.facts import FactPublisher
from cloudmatch_bus.feed import Delivery, DownstreamError, Follower
from cloudmatch_bus.health import Health
from cloudmatch_bus.messages import AmountReported
from cloudmatch_bus.provision import session
from cloudmatch_bus.service import Environment
from cloudmatch_bus.settings import CommonSettings, NatsSettings
from cloudmatch_journal.gateway import handlers
from cloudmatch_journal.ledger import Ledger
from cloudmatch_journal.settings import JournalSettings
from cloudmatch_journal.store import Store, StoreError

log = logging.getLogger("journal")

NAME = "journal"

_kept = Counter("cloudmatch_journal_events", "Events kept")
_repeated = Counter("cloudmatch_journal_repeated", "Events that came again and were kept already")
_position = Gauge("cloudmatch_journal_position", "Position of the last event kept")
_known = Gauge("cloudmatch_journal_known", "Devices and matches known")
_write = Histogram("cloudmatch_journal_write_seconds", "Time to keep a batch of events, on disk")


def restore(store: Store) -> Ledger:
    """Fold what the store keeps: from the saved state where it serves, else from the first event.

    Raises:
        StoreError: a segment that is needed is damaged.
    """
    ledger = Ledger()
    if (saved := store.load()) is not None:
        try:
            ledger = Ledger.decode(saved)
        except ValueError as error:
            log.warning("the saved state cannot be used: %s", error)
        if ledger.position > store.position:
            log.warning("the saved state is ahead of the journal: made anew")
            ledger = Ledger()
    start = ledger.position
    count = sum(ledger.fold(position, fact) for position, fact in store.replay(start))
    log.info("%d events folded from position %d, %d devices and matches known", count, start, len(ledger))
    return ledger


class Journal:
    """The store and the ledger, kept in step."""

    def __init__(self, store: Store, segment_size: int) -> None:
        self.store = store
        self.ledger = restore(store)
        self._segment_size = segment_size
        self._unsaved = 0  # events folded since the state was saved
        self._publisher: FactPublisher | None = None
        self._show()

    def _show(self) -> None:
        _position.set(self.store.position)
        _known.set(len(self.ledger))

    async def take(self, deliveries: list[Delivery]) -> None:
        """Keep a batch, then fold it.

        Raises:
            DownstreamError: the disk refuses.
        """
        try:
            with _write.time():
                kept = self.store.append(deliveries)
        except OSError as error:
            raise DownstreamError(f"cannot write the journal: {error}") from error
        _kept.inc(kept)
        _repeated.inc(len(deliveries) - kept)
        for position, fact in deliveries:
            self._unsaved += self.ledger.fold(position, fact)
        # A save costs as much as is known; so much more must have been folded since.
        if self._unsaved >= self._segment_size + len(self.ledger):
            self.save()
        self._show()

    def save(self) -> None:
        """Save the folded state, so that the next start need not fold all events."""
        try:
            self.store.save(self.ledger.encode())
        except OSError as error:
            log.warning("cannot save the state: %s", error)
        else:
            self._unsaved = 0

    def publish(self, fact: AmountReported) -> bool:
        """Hand a report to the bus; False when it cannot be taken now."""
        return self._publisher is not None and self._publisher.publish(fact)

    async def follow(self, bus: Bus, health: Health, stop: asyncio.Event) -> None:
        """Keep what the bus brings, and publish reports, until `stop`."""
        follower = Follower(bus, NAME)
        health.check("feed", follower.health)
        self._publisher = publisher = FactPublisher(bus)
        sending = asyncio.create_task(publisher.run())
        try:
            await follower.run(self.take, self.store.position, stop)
        finally:
            self._publisher = None
            await publisher.drain(1.0)
            sending.cancel()


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Run the journal until `stop`."""
    settings = environment[JournalSettings]
    folder = Path(settings.folder or Path(environment[CommonSettings].run_dir) / NAME)
    try:
        store = Store(folder, settings.segment_size)
        journal = Journal(store, settings.segment_size)
    except StoreError as error:
        raise SystemExit(f"the journal cannot start: {error}") from None
    health = Health()
    health.check("stopping", lambda: "stopping" if stop.is_set() else None)
    app = http.application("CloudMatch journal", health, handlers(store, journal.ledger, journal.publish))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(http.serve(app, NAME, settings.host, settings.port, stop))
            async with session(environment[NatsSettings], NAME, health, stop) as bus:
                if bus is not None:
                    await journal.follow(bus, health, stop)
    finally:
        journal.save()
        store.close()
