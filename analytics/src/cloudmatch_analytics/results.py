"""Results → ledger: every process of analytics reads all that the pipelines say, its own and the others'.

So each answers for all, and what it lost it reads again.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition  # type: ignore[import-untyped] # has no types
from prometheus_client import Counter

from cloudmatch_analytics import topics
from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import PARTITIONS, decode_result
from cloudmatch_analytics.core.windows import Row
from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_analytics.window_store import Ledger, announcement, lateness

READ = 500  # results at once
WAIT = 0.05  # s for the first
SAVE = 1.0  # s between two writes to the archive

LATE = Counter("cloudmatch_analytics_late", "Sizes added to a window that had closed.")
TOO_LATE = Counter("cloudmatch_analytics_too_late", "Sizes older than any window that is kept; left out.")

log = logging.getLogger("results")


def tell_too_late(rows: list[Row]) -> None:
    """Count and name what no window takes."""
    TOO_LATE.inc(sum(row.messages for row in rows))
    for sentence in lateness(rows):
        log.error("too late for any window that is kept: %s", sentence)


class Results:
    """Reads on from where the archive ends, in a thread, until `stop`."""

    def __init__(self, kafka: KafkaSettings, broker: str, ledger: Ledger, archive: Archive) -> None:
        self._kafka = kafka
        self._broker = broker
        self._ledger = ledger
        self._archive = archive
        self._stop = threading.Event()
        self._error: Exception | None = None
        # monotonic time of the last result, s; 0.0: none yet
        self.heard = 0.0
        # rows to save, and the places after which nothing of them is missing
        self._rows: dict[tuple[int, str], Row] = {}
        self._places = archive.places(broker)
        self._thread = threading.Thread(target=self._run, name="results")

    def start(self, failed: Callable[[], object]) -> None:
        """Begin; `failed` is called if it ends by itself."""
        self._failed = failed
        self._thread.start()

    def stop(self) -> None:
        """End, and save; raise what ended it before, if something did."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        consumer = Consumer(
            topics.client(
                self._kafka,
                **{
                    "group.id": "unused",  # places are kept in the archive
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 100,
                },
            )
        )
        try:
            first = [TopicPartition(topics.RESULTS, p, self._places.get(p, -2)) for p in range(PARTITIONS)]
            consumer.assign(first)
            saved = time.monotonic()
            while not self._stop.is_set():
                self._take(consumer.consume(READ, WAIT))
                if time.monotonic() - saved >= SAVE:
                    self._save()
                    saved = time.monotonic()
            self._save()
        except Exception as error:  # noqa: BLE001 # whatever it is, `stop` raises it in the service's thread
            self._error = error
            self._failed()
        finally:
            consumer.close()

    def _take(self, messages: list[Any]) -> None:
        results = []
        for message in messages:
            if error := message.error():
                if error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                    log.warning("cannot read results: %s", error)
                continue
            results.append(decode_result(message.value()))
            self._places[message.partition()] = message.offset() + 1
        if not results:
            return
        self.heard = time.monotonic()
        news = self._ledger.take(results)
        self._rows.update((row[:2], row) for row in news.rows)
        for window in news.closed:
            log.info("%s", announcement(window))
        LATE.inc(sum(row.messages for row in news.late))
        for sentence in lateness(news.late):
            log.warning("late: %s", sentence)
        tell_too_late(news.too_late)

    def _save(self) -> None:
        rows, self._rows = self._rows, {}
        self._archive.save(rows.values(), self._ledger.kept(), self._broker, self._places)
