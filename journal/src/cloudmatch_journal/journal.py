"""The journal: store facts, fold them into the ledger, apply retention."""

import asyncio
import logging
import math
from bisect import bisect_right

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.follower import Delivery, Follower
from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract.liveness import CLAIM_GRACE
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, DeliveriesCounted, DeviceForgotten
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.clock import monotonic, now_ms, now_us
from cloudmatch_bus.process.health import Health
from cloudmatch_journal.bookkeeper import Bookkeeper
from cloudmatch_journal.core.ledger import MOST, Ledger
from cloudmatch_journal.core.retention import Ageing, Retention
from cloudmatch_journal.files import BASE, STATE
from cloudmatch_journal.place import Place
from cloudmatch_journal.store import Store

log = logging.getLogger("journal")

NAME = "journal"
REPORTS = f"{NAME}-reports"  # names them as their source, apart from what the journal grants
UNLIMITED = Retention()
SPANS = 4  # of a batch that are folded at the cost of one fact
LOOK = 60.0  # s between two looks at the age of segments
ERASURES = 100  # devices erased in one pass over the segments
RETRY = 5.0  # s after which a disk that refused is tried again, while no facts arrive

_stored = Counter("cloudmatch_journal_events", "Events stored")
_repeated = Counter("cloudmatch_journal_repeated", "Redelivered events that were stored already")
_unfolded = Counter("cloudmatch_journal_unfolded", "Events that no state contains: they could not be folded")
_position = Gauge("cloudmatch_journal_position", "Position of the last event stored")
_begins = Gauge("cloudmatch_journal_begins", "Position before which events were dropped; 0: none")
_size = Gauge("cloudmatch_journal_size_bytes", "Bytes of all events stored")
_known = Gauge("cloudmatch_journal_known", "Known devices and matches")
_repeated_payloads = Gauge(
    "cloudmatch_journal_counted_twice_payloads",
    "Payloads that facts counted again; states count them once, readers of RabbitMQ got them twice",
)
_unaccounted = Gauge(
    "cloudmatch_journal_unaccounted_payloads", "Payloads known to be delivered, whose sizes nobody knows"
)
_losses = Gauge(
    "cloudmatch_journal_losses",
    "Times that facts were lost before the journal had them: events of type `lost`",
)
_lost = Gauge("cloudmatch_journal_lost_facts", "Facts that were lost then, at most, where that is known")
_claims = Gauge("cloudmatch_journal_claims", "Claims of payloads that are not all counted yet")
_write = Histogram("cloudmatch_journal_write_seconds", "Time to store a batch of events on disk")


def restore(store: Store, most: int = MOST) -> tuple[Ledger, int]:
    """Restore the ledger: from the newest usable snapshot and the events after it.

    Returns:
        It, and the position of that snapshot.
    """
    base, state = _usable_snapshot(store, BASE, most), _usable_snapshot(store, STATE, most)
    ledger = max(filter(None, (state, base)), key=lambda each: each.position, default=Ledger(most=most))
    if ledger is not state:
        store.ignore(STATE)
    if ledger.position < store.first_position:  # one is saved before any segment is dropped
        log.error(
            "events before position %d were dropped, and neither %s nor %s covers them: states begin there",
            store.first_position,
            STATE,
            BASE,
        )
        store.ignore(BASE)
        base, ledger = None, Ledger(most=most)
    start = ledger.position
    count = sum(_fold(ledger, position, fact) for position, fact in store.replay(start))
    log.info(
        "ledger restored: %d events after position %d, %d devices and matches", count, start, len(ledger)
    )
    if store.first_position and base is None:
        _save_twice(store, ledger)
    return ledger, start


def _fold(ledger: Ledger, position: int, fact: AnyFact) -> bool:
    """Fold a fact; False if it has been folded already. One that cannot be folded is in no state."""
    try:
        return ledger.fold(position, fact)
    except Exception:
        log.exception("event at position %d cannot be folded: no state contains it", position)
        _unfolded.inc()
        return True


def _save_twice(store: Store, ledger: Ledger) -> None:
    try:
        store.save(ledger.encode())
        store.drop_segments(0)
        store.save(ledger.encode())
    except OSError as error:
        log.warning("snapshot not saved: %s", error)


def _usable_snapshot(store: Store, name: str, most: int) -> Ledger | None:
    if (snapshot := store.load(name)) is None:
        return None
    try:
        ledger = Ledger.decode(snapshot, any_version=name == BASE, most=most)
    except (ValueError, *UNREADABLE) as error:
        log.warning("%s ignored: %s", name, error)
        return None
    if ledger.position > store.position:  # what comes between was folded, and is stored when it is read again
        log.warning(
            "%s knows events up to position %d; the journal ends at %d", name, ledger.position, store.position
        )
    return ledger


class Journal:
    """The store and the ledger, in step."""

    def __init__(
        self,
        store: Store,
        segment_size: int,
        retention: Retention = UNLIMITED,
        claim_grace: float = CLAIM_GRACE,
        most: int = MOST,
    ) -> None:
        self.store = store
        self.ledger, self._saved = restore(store, most)  # and the position of the snapshot saved last
        self._segment_size = segment_size
        self._retention = retention
        self._ageing = Ageing(retention)
        self._claim_grace = claim_grace
        self._unsaved = 0.0  # cost of a start: facts to be folded since the last snapshot
        self._publisher: FactPublisher | None = None
        self._incarnation = now_us()
        self._reports = 0  # published by this process
        self._update_metrics()
        ledger = self.ledger  # claims are settled without an event
        _repeated_payloads.set_function(lambda: ledger.repeated)
        _unaccounted.set_function(lambda: ledger.unaccounted)
        _losses.set_function(lambda: len(ledger.losses))
        _lost.set_function(lambda: sum(each.missing or 0 for each in ledger.losses))
        _claims.set_function(lambda: len(ledger.claims))

    async def append(self, deliveries: list[Delivery]) -> None:
        """Store a batch, then fold it.

        Raises:
            DownstreamError: the disk refuses.
        """
        if offset := self.store.offset:
            deliveries = [Delivery(position + offset, fact) for position, fact in deliveries]
        try:
            with _write.time():
                stored = self.store.append(deliveries)
        except OSError as error:
            problem = self.store.problem or str(error)
            self.apply_retention()
            raise DownstreamError(problem) from error
        _stored.inc(stored)
        _repeated.inc(len(deliveries) - stored)
        for position, fact in deliveries:
            if _fold(self.ledger, position, fact):
                self._unsaved += _cost(fact)
        # the cost of a snapshot grows with the ledger, so the interval between two does as well
        if self._unsaved >= self._segment_size + len(self.ledger):
            self.save()
            self.apply_retention()
        self._update_metrics()

    def save(self) -> None:
        """Save a snapshot of the ledger, so that the next start folds only the events after it."""
        try:
            self.store.save(self.ledger.encode())
        except OSError as error:  # the store has said so
            log.debug("snapshot not saved: %s", error)
        else:
            self._unsaved, self._saved = 0.0, self.ledger.position

    def apply_retention(self, expired: int = 0) -> None:
        """Drop the segments that take too much space, and at least the oldest `expired`."""
        droppable = self.store.droppable
        count = max(expired, self._retention.too_much(droppable, self.store.size))
        if not count:
            return
        self.ledger.forget(droppable[count - 1].last + 1)
        self.save()
        # On a full disk that fails, and what the snapshot before it covers is dropped: then there is space.
        count = bisect_right(droppable, self._saved, hi=count, key=lambda seal: seal.last)
        try:
            self.store.drop_segments(count)
        except OSError as error:
            log.warning("segments not dropped: %s", error.strerror)
        else:
            log.info("%d segments dropped: first position is %d", count, self.store.first_position)
            self.save()  # a second copy of the base
        self._update_metrics()

    def look_at_age(self, clock: int) -> None:
        """Drop segments that are too old at this and at the last look; `clock` is in ms since 1970."""
        expired, too_old = self._ageing.look(self.store.droppable, min(clock, self.store.newest))
        if too_old:
            log.info("%d segments are too old, %d of them are dropped at this look", too_old, expired)
        self.apply_retention(expired)

    async def keep_house(self) -> None:
        """Look at the age of segments regularly, and try a disk that refused, until cancelled."""
        looked = -math.inf
        while True:
            if monotonic() - looked >= LOOK:
                looked = monotonic()
                self.look_at_age(now_ms())
            self.try_disk()
            await self.erase()
            await asyncio.sleep(RETRY)

    def try_disk(self) -> None:
        """If the disk refused, find out whether it still does."""
        if self.store.problem:
            self.save()

    async def erase(self) -> None:
        """Erase from all files the devices that were forgotten; what a crash or the disk prevents, later."""
        if not (erasures := self.ledger.erasures[:ERASURES]):
            return
        try:
            for number in self.store.start_erasing(erasures):
                await asyncio.to_thread(self.store.erase, number, erasures)
            self.store.end_erasing(erasures)
        except OSError as error:
            log.warning("devices not erased: %s", error.strerror)
            return
        del self.ledger.erasures[: len(erasures)]
        log.info("%d devices erased", len(erasures))
        if self.store.first_position:
            _save_twice(self.store, self.ledger)
        else:
            self.save()
        self._update_metrics()

    def publish(self, fact: AmountReported | DeviceForgotten) -> bool:
        """Publish a report or a request to the bus; False if that is not possible now."""
        if isinstance(fact, AmountReported):
            self._reports += 1
            fact = msgspec.structs.replace(
                fact, source=REPORTS, incarnation=self._incarnation, number=self._reports
            )
        return self._publisher is not None and self._publisher.publish(fact)

    async def run(self, bus: Bus, health: Health, stop: asyncio.Event) -> None:
        """Append the facts on the bus, publish reports and grant claims, until `stop`."""
        self._publisher = publisher = FactPublisher(bus)
        health.set_warning("facts", publisher.problem)
        health.set_warning("lost", self._missing)
        place = Place(bus, self.store, self.ledger, publisher.publish)
        follower = Follower(bus, resume=place.resume)
        health.set_check("feed", follower.health)
        place.report_damage()
        bookkeeper = Bookkeeper(bus, follower, self.ledger, self._claim_grace)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(each) for each in (publisher.run(), bookkeeper.run())]
            try:
                await follower.run(self.append, self.store.position - self.store.offset, stop)
            finally:
                self._publisher = None
                await publisher.drain(1.0)
                for each in helpers:
                    each.cancel()

    def _missing(self) -> str | None:
        """Return that the journal does not have all facts, or None."""
        times = len(self.ledger.losses)
        return f"facts are lost, {times} times: /events?type=lost shows where and why" if times else None

    def _update_metrics(self) -> None:
        _position.set(self.store.position)
        _begins.set(self.store.first_position)
        _size.set(self.store.size)
        _known.set(len(self.ledger))


def _cost(fact: AnyFact) -> float:
    """Return what it costs to fold a fact again, compared with one that is about one device."""
    return max(1.0, len(fact.spans) / SPANS) if isinstance(fact, DeliveriesCounted) else 1.0
