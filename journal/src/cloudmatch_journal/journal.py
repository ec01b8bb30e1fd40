"""The journal's process: follow the facts, keep them, fold them, answer about them."""

import asyncio
import logging

from prometheus_client import Counter, Gauge, Histogram

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.consumer import Delivery, DownstreamError, OrderedConsumer
from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract.messages import AmountReported
from cloudmatch_bus.process import http
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import HttpSettings, variable
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.core.retention import Retention
from cloudmatch_journal.files import BASE, STATE, StoreError
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.settings import JournalSettings, folder
from cloudmatch_journal.store import Store

log = logging.getLogger("journal")

NAME = "journal"
FOR_EVER = Retention()
RETAIN = 60.0  # s between two looks at what is too old, when nothing comes

_kept = Counter("cloudmatch_journal_events", "Events kept")
_repeated = Counter("cloudmatch_journal_repeated", "Events that came again and were kept already")
_position = Gauge("cloudmatch_journal_position", "Position of the last event kept")
_begins = Gauge("cloudmatch_journal_begins", "Position before which events were let go; 0: none")
_size = Gauge("cloudmatch_journal_size_bytes", "Bytes of all events kept")
_known = Gauge("cloudmatch_journal_known", "Devices and matches known")
_write = Histogram("cloudmatch_journal_write_seconds", "Time to keep a batch of events, on disk")


def _saved(store: Store, name: str) -> Ledger | None:
    """Read a saved state; None where it does not serve."""
    if (saved := store.load(name)) is None:
        return None
    try:
        ledger = Ledger.decode(saved, any_rules=name == BASE)
    except ValueError as error:
        log.warning("%s cannot be used: %s", name, error)
        return None
    if ledger.position > store.position:
        log.warning("%s is ahead of the journal", name)
        return None
    return ledger


def restore(store: Store) -> Ledger:
    """Fold what the store keeps: from the saved state where it serves, else from the first event.

    Where events were let go, from the base at least, which knows what they said.

    Raises:
        StoreError: a segment or a state that is needed is damaged.
    """
    base = _saved(store, BASE)
    saved = [each for each in (_saved(store, STATE), base) if each is not None]
    ledger = max(saved, key=lambda each: each.position, default=Ledger())
    if ledger.position < store.begins:  # both are saved before any event goes
        raise StoreError(
            f"events before position {store.begins} were let go, and neither {STATE} nor {BASE} says what "
            f"they meant: bring one back, or remove {BASE} to count from there on only"
        )
    start = ledger.position
    count = sum(ledger.fold(position, fact) for position, fact in store.replay(start))
    log.info("%d events folded from position %d, %d devices and matches known", count, start, len(ledger))
    if store.begins and base is None:
        store.let_go(0, ledger.encode())
    return ledger


class Journal:
    """The store and the ledger, kept in step."""

    def __init__(self, store: Store, segment_size: int, retention: Retention = FOR_EVER) -> None:
        self.store = store
        self.ledger = restore(store)
        self._segment_size = segment_size
        self._retention = retention
        self._unsaved = 0  # events folded since the state was saved
        self._publisher: FactPublisher | None = None
        self._show()

    def _show(self) -> None:
        _position.set(self.store.position)
        _begins.set(self.store.begins)
        _size.set(self.store.size)
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
            self.retain(now_ms())
        self._show()

    def save(self) -> None:
        """Save the folded state, so that the next start need not fold all events."""
        try:
            self.store.save(self.ledger.encode())
        except OSError as error:
            log.warning("cannot save the state: %s", error)
        else:
            self._unsaved = 0

    def retain(self, now: int) -> None:
        """Let go of the events that are too old at `now` (ms since 1970), or too many."""
        spare = self.store.spare
        count = self._retention.expired(spare, self.store.size, now)
        if not count:
            return
        self.ledger.forget(spare[count - 1].last + 1)
        state = self.ledger.encode()
        try:
            self.store.save(state)
            self.store.let_go(count, state)
        except OSError as error:
            log.warning("cannot let events go: %s", error)
        else:
            log.info("let go %d segments: the journal begins at position %d", count, self.store.begins)
        self._show()

    async def keep_retaining(self) -> None:
        """Look now and then at what is too old, until cancelled."""
        while True:
            self.retain(now_ms())
            await asyncio.sleep(RETAIN)

    def publish(self, fact: AmountReported) -> bool:
        """Hand a report to the bus; False when it cannot be taken now."""
        return self._publisher is not None and self._publisher.publish(fact)

    async def follow(self, bus: Bus, health: Health, stop: asyncio.Event) -> None:
        """Keep what the bus brings, and publish reports, until `stop`."""
        follower = OrderedConsumer(bus, NAME)
        health.set_check("feed", follower.health)
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
    sock = listen(settings.host, settings.port, variable(JournalSettings, "port"))
    try:
        store = Store(folder(environment), settings.segment_size)
        retention = Retention(settings.retention_days, settings.retention_bytes)
        journal = Journal(store, settings.segment_size, retention)
    except StoreError as error:
        raise SystemExit(f"the journal cannot start: {error}") from None
    health = Health()
    health.set_check("stopping", lambda: "stopping" if stop.is_set() else None)
    answers = handlers(store, journal.ledger, journal.publish)
    app = http.application("CloudMatch journal", health, answers, environment[HttpSettings].allowed_origins)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(http.serve(app, NAME, sock, stop))
            retaining = group.create_task(journal.keep_retaining())
            async with connected_bus(environment[NatsSettings], NAME, health, stop) as bus:
                if bus is not None:
                    await journal.follow(bus, health, stop)
            retaining.cancel()
    finally:
        journal.save()
        store.close()
