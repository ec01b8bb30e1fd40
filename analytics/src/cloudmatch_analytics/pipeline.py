"""Kafka → windows: count each size once, and sum per sender in windows of event time.

Quix keeps the state of a window for `RETAINED`, so that late sizes only make its sums grow. Whether a window
is closed is decided by the window store, which reads the watermarks of all partitions.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client import Counter
from quixstreams import Application, State, message_context
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.dataframe.windows.aggregations import BaseAggregator
from quixstreams.exceptions.assignment import PartitionAssignmentError
from quixstreams.kafka.exceptions import BaseKafkaException, KafkaBrokerUnavailableError
from quixstreams.models import Topic
from quixstreams.sinks.base import BaseSink
from quixstreams.sources.base import SourceException
from quixstreams.state.metadata import METADATA_CF_NAME
from quixstreams.state.rocksdb import RocksDBOptions, RocksDBStorePartition
from quixstreams.state.rocksdb.metadata import CHANGELOG_OFFSET_KEY

from cloudmatch_analytics import topics
from cloudmatch_analytics.core import kafka_records
from cloudmatch_analytics.core.kafka_records import Batch, Size, SliceSums, Watermark
from cloudmatch_analytics.core.windows import BASE, RETAINED, Row
from cloudmatch_analytics.results import Results
from cloudmatch_analytics.settings import KafkaSettings

ID_TTL = timedelta(hours=1)  # after its arrival, in event time, for which the id of a size is remembered
COMMIT_INTERVAL = 0.25  # s
MIB = 1024 * 1024  # RocksDB's default is 64 of them and more for each store and partition

COUNTED = Counter("cloudmatch_analytics_counted", "Sizes counted in windows.")
DUPLICATES = Counter("cloudmatch_analytics_duplicates", "Redelivered sizes, not counted again.")

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # end the process

CONSUMER = {
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 1000,
    "coordinator.query.interval.ms": 1000,
    "log_level": 3,
}
PRODUCER = {"linger.ms": 5, "log_level": 3}

log = logging.getLogger("pipeline")


class BrokerLostError(Exception):
    """The broker has ended: what is not committed never will be."""


# raised when the broker or the source's process is lost, or when a stop interrupts partition assignment
LOST = (
    BrokerLostError,
    BaseKafkaException,
    KafkaBrokerUnavailableError,
    PartitionAssignmentError,
    SourceException,
)


class CommitGate(BaseSink):
    """Calls `on_started` when the pipeline starts, and prevents commits once `lost` is set.

    Without it Quix would wait for a commit to a broker that has ended.
    """

    def __init__(self, on_started: Callable[[], None], lost: threading.Event) -> None:
        super().__init__(on_client_connect_success=on_started)
        self._lost = lost

    def add(self, *_: object, **__: object) -> None:
        """Ignore a record."""

    def flush(self) -> None:
        """Let Quix commit, unless the broker has ended."""
        if self._lost.is_set():
            raise BrokerLostError("the Kafka-protocol broker has ended")


class SumBySender(BaseAggregator[dict[str, Any]]):
    """Sums of bytes and messages by sender. Its result are the sums that the last batch has changed."""

    state_suffix = "by-sender"

    def initialize(self) -> dict[str, Any]:
        """Return empty sums."""
        return {"sums": {}, "changed": []}

    def agg(self, old: dict[str, Any], new: list[Size], timestamp: int) -> dict[str, Any]:
        """Add sizes."""
        sums = old["sums"]
        for size in new:
            of_sender = sums.setdefault(size.series, [0, 0])
            of_sender[0] += size.bytes
            of_sender[1] += 1
        return {"sums": sums, "changed": list({size.series for size in new})}

    def result(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return the changed sums."""
        return {series: value["sums"][series] for series in value["changed"]}


def deduplicate(batch: Batch, _: object, at: int, __: object, state: State[str, list[str]]) -> list[Size]:
    """Return the sizes of a batch that were not counted before.

    Ids are remembered in lists, by the second of their payload's time, which is the same in a redelivery.
    """
    by_second: dict[int, list[Size]] = {}
    for size in batch.sizes:
        by_second.setdefault(size.at // 1000, []).append(size)
    new: list[Size] = []
    for second, sizes in by_second.items():
        ids = state.get(str(second)) or []
        known = set(ids)
        for size in sizes:
            if size.id is None:
                new.append(size)
            elif size.id not in known:
                known.add(size.id)
                ids.append(size.id)
                new.append(size)
        # Quix counts from `at`, which may be long before the arrival
        age = timedelta(milliseconds=max(0, batch.produced_at - at))
        state.set(str(second), ids, ttl=ID_TTL + age)
    COUNTED.inc(len(new))
    DUPLICATES.inc(len(batch.sizes) - len(new))
    return new


def _is_watermark(_: object, key: str, __: int, ___: object) -> bool:
    return key == kafka_records.WATERMARK_KEY


def _is_batch(*record: Any) -> bool:
    return not _is_watermark(*record)


def _encode_watermark(_: object, __: str, at: int, ___: object) -> bytes:
    return kafka_records.encode(Watermark(message_context().partition, at))


def _encode_sums(window: dict[str, Any]) -> bytes:
    return kafka_records.encode(SliceSums(window["start"], window["sums"]))


def _key(_: object) -> str:
    """Key a result by its partition, so that a watermark follows the sums from before it."""
    return str(message_context().partition)


def define_pipeline(
    sizes: StreamingDataFrame, results: Topic, gate: CommitGate, on_too_late: Callable[[list[Row]], None]
) -> None:
    """Define how sizes become results; `on_too_late` is called with sizes that no window accepts."""

    def on_late(value: Any, *_: Any) -> bool:
        on_too_late([Row(size.at - size.at % BASE, size.series, size.bytes, 1) for size in value])
        return False

    watermarks = sizes.filter(_is_watermark, metadata=True).apply(_encode_watermark, metadata=True)
    watermarks.to_topic(results, key=_key).sink(gate)
    batches = sizes.filter(_is_batch, metadata=True).apply(kafka_records.decode_batch)
    new = batches.apply(deduplicate, stateful=True, metadata=True).filter(bool)
    windows = new.tumbling_window(BASE, grace_ms=RETAINED, name="slices", on_late=on_late)  # type: ignore[arg-type] # takes all
    sums = windows.agg(sums=SumBySender()).current(closing_strategy="partition")
    sums.apply(_encode_sums).to_topic(results, key=_key)


def forget_changelogs(state: Path) -> None:
    """Make the local state the starting point on a broker that has no changelogs of it."""
    for file in state.rglob("CURRENT"):  # every RocksDB has one
        partition = RocksDBStorePartition(str(file.parent))
        partition.get_or_create_column_family(METADATA_CF_NAME).delete(CHANGELOG_OFFSET_KEY)
        partition.close()  # type: ignore[no-untyped-call] # Quix leaves it bare


def raise_consumer_error(_error: Exception, _message: object, _log: logging.Logger) -> bool:
    """Have Quix raise an error of its consumer without logging it: whatever handles it logs it.

    Some are part of normal operation, such as a commit that fails because the group is rebalancing.
    """
    return False


def create_application(kafka: KafkaSettings, group: str, instance: str, state: Path) -> Application:
    """Create the Quix application. A broker must answer.

    A real Kafka commits results, state and offsets in one transaction. The embedded broker has none; there,
    changelogs restore the state of the last commit, and reading results twice changes nothing.

    Args:
        instance: names this one among all that share the work, also after a restart: starting under a
            name ends the transaction that a dead process left open, which would block all consumers.
    """
    transactions = {"transactional.id": instance, "transaction.timeout.ms": 10_000}
    return Application(
        broker_address=topics.connection_config(kafka),
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        rocksdb_options=RocksDBOptions(write_buffer_size=MIB, block_cache_size=8 * MIB),
        commit_interval=COMMIT_INTERVAL,
        consumer_poll_timeout=0.1,
        processing_guarantee="at-least-once" if kafka.embedded else "exactly-once",
        topic_manager=topics.topic_manager(kafka, group),
        broker_availability_timeout=0,  # librdkafka reconnects; the probe would block a stop
        on_consumer_error=raise_consumer_error,
        consumer_extra_config=CONSUMER,
        producer_extra_config=PRODUCER if kafka.embedded else PRODUCER | transactions,
        loglevel=None,
    )


class Pipeline:
    """A Quix application and the reader of its results, until `stop` or the loss of broker or source."""

    def __init__(self, app: Application, results: Results, stop: threading.Event) -> None:
        self._app = app
        self._results = results
        self._stop = stop
        self._handlers = [(number, signal.getsignal(number)) for number in SIGNALS]
        self.lost = threading.Event()

    def run(self) -> bool:
        """Run in the main thread; return whether the broker or the source was lost."""
        try:
            self._app.run()
        except LOST as error:
            if not self.lost.is_set() and not self._stop.is_set():
                log.warning("pipeline restarting: %s", error)
            self.lost.set()
        finally:
            self._results.stop()
        return self.lost.is_set()

    def end(self) -> None:
        """Make `run` return."""
        self._app.stop()

    def on_started(self) -> None:
        """Start reading results, now that the application has connected."""
        for number, handler in self._handlers:  # Quix has replaced them
            signal.signal(number, handler)
        if self._stop.is_set() or self.lost.is_set():
            self.end()
        self._results.start(self.end)

    def on_broker_lost(self) -> None:
        """End without a commit."""
        if not self._stop.is_set():
            log.warning("Kafka-protocol broker lost")
        self.lost.set()
        self.end()

    @property
    def silence(self) -> float | None:
        """Seconds since the last result; None before the first."""
        last = self._results.last_result
        return time.monotonic() - last if last else None
