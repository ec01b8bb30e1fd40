"""Results → windows: every process of analytics reads the results of all pipelines.

So each process answers for all, and reads again what it has lost.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import (  # type: ignore[import-untyped] # has no types
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from prometheus_client import Counter

from cloudmatch_analytics import topics
from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import decode_result
from cloudmatch_analytics.core.windows import MAX_SUM, Row
from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_analytics.window_store import Changed, Update, WindowStore, describe_closed, describe_late
from cloudmatch_bus.contract.unreadable import UNREADABLE

FETCH = 500  # results at once
IDLE = 0.05  # s between two fetches while there are no results
SAVE_INTERVAL = 1.0  # s between two writes to the archive
RETRY_INTERVAL = 5.0  # s between two attempts while it cannot be written
LATE_INTERVAL = 2.0  # s between two reports of late sizes
REMINDER = 60.0  # s between two lines about watermarks that are ahead
BEGINNING = -2  # the offset of a partition's first record, to librdkafka

CONSUMER = {
    "group.id": "unused",  # offsets are kept in the archive
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 100,
}

TOPIC_LOST = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}

SATURATED = Counter(
    "cloudmatch_analytics_saturated", "Sums written to the archive as 2^63 - 1, as they are larger."
)
LATE = Counter("cloudmatch_analytics_late", "Sizes added to a window after it had closed.")
TOO_LATE = Counter("cloudmatch_analytics_too_late", "Sizes older than all retained windows; not counted.")

REOPENED = "windows reopened: they were closed by a clock that was ahead, and have not ended yet"

UNREADABLE_RECORDS = Counter(
    "cloudmatch_analytics_unreadable", "Records in Kafka that cannot be read; not counted."
)

log = logging.getLogger("results")


class Results:
    """Reads results in a thread, from where the archive ends until `stop`."""

    def __init__(
        self, kafka: KafkaSettings, broker: str, partitions: int, windows: WindowStore, archive: Archive
    ) -> None:
        self._kafka = kafka
        self._broker = broker
        self._partitions = partitions
        self._windows = windows
        self._archive = archive
        self._stop = threading.Event()
        self._error: Exception | None = None
        # monotonic time of the last result, s; 0.0: none yet
        self.last_result = 0.0
        # what to save, and the offsets up to which it is complete
        self._changed: Changed = {}
        self._offsets = archive.offsets(broker)
        self._thread: threading.Thread | None = None
        self._reminded = -REMINDER  # monotonic, s
        # sizes that were late, or too late, and are to be reported
        self._late: list[Row] = []
        self._too_late: list[Row] = []
        self._next_late = 0.0  # monotonic, s

    def start(self, on_failure: Callable[[], object]) -> None:
        """Start reading; `on_failure` is called if it fails."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name="results")
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and save; raise the error if reading has failed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, on_failure: Callable[[], object]) -> None:
        consumer = Consumer(topics.client_config(self._kafka, **CONSUMER))
        try:
            offsets = [self._offsets.get(p, BEGINNING) for p in range(self._partitions)]
            consumer.assign([TopicPartition(topics.RESULTS, p, offset) for p, offset in enumerate(offsets)])
            next_save = time.monotonic() + SAVE_INTERVAL
            while not self._stop.is_set():
                # librdkafka waits by the wall clock: once that is set back, a time-out would not end for long
                if not self._fold(consumer.consume(FETCH, 0.0)):
                    self._stop.wait(IDLE)
                self._report_late()
                if time.monotonic() >= next_save:
                    next_save = time.monotonic() + (SAVE_INTERVAL if self._save() else RETRY_INTERVAL)
            self._save()
        except Exception as error:  # noqa: BLE001 # whatever it is, `stop` raises it in the service's thread
            self._error = error
            on_failure()
        finally:
            consumer.close()

    def _fold(self, messages: list[Any]) -> bool:
        """Fold results in; return whether there were any."""
        results = []
        for message in messages:
            if error := message.error():
                if error.code() in TOPIC_LOST:
                    raise KafkaException(error)
                if error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                    log.warning("cannot read results: %s", error)
                continue
            self._offsets[message.partition()] = message.offset() + 1
            try:
                results.append(decode_result(message.value()))
            except (*UNREADABLE, TypeError) as unreadable:
                UNREADABLE_RECORDS.inc()
                at = message.partition(), message.offset()
                log.warning("unreadable result in partition %d at %d, not counted: %s", *at, unreadable)
        if results:
            self.last_result = time.monotonic()
            update = self._windows.fold(results)
            for start, series in update.changed.items():
                self._changed.setdefault(start, set()).update(series)
            self._report(update)
        return bool(results)

    def _save(self) -> bool:
        """Save what has changed; return whether that was possible."""
        windows = self._windows
        rows = windows.rows(self._changed if self._archive.complete else None)
        saved = self._archive.save(
            rows, windows.bounds(), self._broker, self._offsets, windows.offsets(), windows.forgotten()
        )
        if saved:
            self._changed = {}
            SATURATED.inc(sum([MAX_SUM in row for row in rows]))
        return saved

    def _report(self, update: Update) -> None:
        if update.forgotten:
            self._archive.complete = False  # it is written again, without the names
        if update.reopened:
            log.warning("%s", REOPENED)
        if update.ahead and time.monotonic() - self._reminded >= REMINDER:
            self._reminded = time.monotonic()
            log.warning("watermark ahead of this clock by %.0f s: counts as now", update.ahead / 1000)
        for window in update.closed:
            log.info("%s", describe_closed(window))
        LATE.inc(sum(row.messages for row in update.late))
        TOO_LATE.inc(sum(row.messages for row in update.too_late))
        self._late += update.late
        self._too_late += update.too_late

    def _report_late(self) -> None:
        """Name what was late, now and then: an edge whose clock is behind is late all the time."""
        if not (self._late or self._too_late) or time.monotonic() < self._next_late:
            return
        self._next_late = time.monotonic() + LATE_INTERVAL
        for line in describe_late(self._late):
            log.warning("late: %s", line)
        for line in describe_late(self._too_late):
            log.error("too late for all retained windows: %s", line)
        self._late, self._too_late = [], []
