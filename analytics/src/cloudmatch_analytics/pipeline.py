"""Kafka → windows: count each size once, and tell what each record adds to the sums of senders.

The state are the ids of what was counted. Sums and windows are the window store's, which
reads the results of all partitions.
"""

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaException  # type: ignore[import-untyped] # has no types
from prometheus_client import Counter
from quixstreams import Application, message_context
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.exceptions import QuixException
from quixstreams.models import Topic
from quixstreams.sinks.base import BaseSink
from quixstreams.sources.base import SourceException
from quixstreams.state.exceptions import (
    ColumnFamilyDoesNotExist,
    IncompatibleStateStoreError,
    InvalidStoreChangelogOffset,
    StateSerializationError,
)
from quixstreams.state.metadata import METADATA_CF_NAME
from quixstreams.state.rocksdb import RocksDBOptions, RocksDBStorePartition
from quixstreams.state.rocksdb.exceptions import RocksDBCorruptedError
from quixstreams.state.rocksdb.metadata import CHANGELOG_OFFSET_KEY

from cloudmatch_analytics import topics
from cloudmatch_analytics.core import kafka_records, known_ids
from cloudmatch_analytics.core.kafka_records import Added, Sent, Watermark
from cloudmatch_analytics.core.known_ids import State
from cloudmatch_analytics.core.windows import BASE, saturated
from cloudmatch_analytics.results import UNREADABLE_RECORDS, Results
from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.settings import error_text

COMMIT_INTERVAL = 0.25  # s
PATIENCE = 5.0  # s that a commit waits for results to be read
POLL = 0.01  # s
MIB = 1024 * 1024  # RocksDB's default is 64 of them and more for each store and partition

# damaged state is put aside by us, not deleted by Quix
ROCKSDB = RocksDBOptions(
    write_buffer_size=MIB,
    block_cache_size=8 * MIB,
    on_corrupted_recreate=False,
    open_max_retries=2,
    open_retry_backoff=1.0,
)

COUNTED = Counter("cloudmatch_analytics_counted", "Sizes counted in windows.")
DUPLICATES = Counter("cloudmatch_analytics_duplicates", "Redelivered sizes, not counted again.")

# what RocksDB says of state that it did not write like that; other errors of it are of the disk
DAMAGE = re.compile(r"Corruption|Invalid argument|Not implemented|IO error: No such file")

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


class StrayRecordError(Exception):
    """A record of a changelog came while no state was restored: fetched before the group was rebalanced."""


# raised by Quix when the local state is not what was written to it
DAMAGED = (
    ColumnFamilyDoesNotExist,
    IncompatibleStateStoreError,
    RocksDBCorruptedError,
    StateSerializationError,
)
# raised when Kafka, the source's process or the disk fail
EXPECTED = (BrokerLostError, StrayRecordError, KafkaException, OSError, QuixException, SourceException)


class Failure(NamedTuple):
    """What the error of a pipeline means."""

    text: str
    damaged: bool = False  # the local state is not what was written to it
    foreign: bool = False  # the local state is of changelogs that do not exist any more
    expected: bool = True  # this is no error of ours


def diagnose(error: BaseException) -> Failure:
    """Tell what an error means, by what has caused it."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for each in causes:
        text = str(each).strip() or type(each).__name__
        if isinstance(each, DAMAGED) or DAMAGE.match(text):
            return Failure(str(causes[-1]).strip() or text, damaged=True)
        if isinstance(each, InvalidStoreChangelogOffset):
            return Failure("its changelogs are others than those of the local state", foreign=True)
        if isinstance(each, OSError) and each.filename:
            return Failure(f"{each.filename}: {error_text(each)}")
    expected = any(isinstance(each, EXPECTED) or text.startswith("IO error") for each in causes)
    return Failure(text, expected=expected)


class CommitGate(BaseSink):
    """Calls `on_started` when the pipeline starts, and prevents commits once `lost` is set.

    Without it Quix would wait for a commit to a broker that has ended.

    Args:
        read: returns the offset of the last record whose result was read, by partition: then a commit waits
            for the results of the one before. The embedded broker drops what is read too late.
    """

    def __init__(
        self,
        on_started: Callable[[], None],
        lost: threading.Event,
        read: Callable[[], Mapping[int, int]] | None = None,
    ) -> None:
        super().__init__(on_client_connect_success=on_started)
        self._lost = lost
        self._read = read
        # offset of the last record with a result, by partition: so far, and at the last commit
        self._added: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def on_added(self, partition: int, offset: int) -> None:
        """Record that a record has a result."""
        self._added[partition] = offset

    def add(self, *_: object, **__: object) -> None:
        """Ignore a record."""

    def flush(self) -> None:
        """Let Quix commit, unless the broker has ended."""
        if self._lost.is_set():
            raise BrokerLostError("the Kafka-protocol broker has ended")
        deadline = time.monotonic() + PATIENCE
        while self._read and not self._lost.is_set() and time.monotonic() < deadline:
            read = self._read()
            if all(read.get(partition, -1) >= offset for partition, offset in self._committed.items()):
                break
            time.sleep(POLL)
        self._committed = dict(self._added)


def add_up(
    value: bytes, key: str, _: int, __: object, state: State
) -> tuple[int, dict[str, tuple[int, int]]]:
    """Return the start of a record's slice, and what its sizes add to sums that were not counted before."""
    try:
        start, counted = _decoded(value, key)
    except UNREADABLE as unreadable:
        _skip(message_context().partition, unreadable)
        return 0, {}
    found, repeated = known_ids.new(counted, state)
    DUPLICATES.inc(repeated)
    COUNTED.inc(sum(map(known_ids.payloads, found)))
    return start, _merged(found)


def _decoded(value: bytes, key: str) -> tuple[int, list[tuple[str | None, Sent]]]:
    """Return the start of a record's slice, and its sums by their ids."""
    if key == kafka_records.BATCHES_KEY:
        batches = kafka_records.decode_batches(value)
        return batches.start, [(each.id, each.sums) for each in batches.batches]
    sizes = kafka_records.decode_singles(value).sizes
    start = sizes[0].at - sizes[0].at % BASE
    return start, [(each.id, {each.series: (each.bytes, 1)}) for each in sizes]


def _merged(several: list[Sent]) -> dict[str, tuple[int, int]]:
    merged: dict[str, tuple[int, int]] = {}
    for sums in several:
        for series, sent in sums.items():
            if known := merged.get(series):
                merged[series] = saturated(known[0] + sent[0]), saturated(known[1] + sent[1])
            else:
                merged[series] = sent
    return merged


def _is_whole(value: object, key: object, _: int, __: object) -> bool:
    """Whether a record has a key and a value; ours have."""
    if whole := value is not None and key is not None:
        return whole
    _skip(message_context().partition, "it has no key or no value")
    return whole


def _is_watermark(_: object, key: str, __: int, ___: object) -> bool:
    return key == kafka_records.WATERMARK_KEY


def _is_forget(_: object, key: str, __: int, ___: object) -> bool:
    return key == kafka_records.FORGET_KEY


def _has_sizes(*record: Any) -> bool:
    return not _is_watermark(*record) and not _is_forget(*record)


def _encode_forget(value: bytes) -> bytes | None:
    try:
        return kafka_records.encode(kafka_records.decode_forget(value))
    except UNREADABLE as unreadable:
        _skip(message_context().partition, unreadable)
        return None


def _is_result(encoded: bytes | None) -> bool:
    return encoded is not None


def _adds(result: tuple[int, dict[str, tuple[int, int]]]) -> bool:
    return bool(result[1])


def _encode_watermark(_: object, __: str, at: int, ___: object) -> bytes:
    return kafka_records.encode(Watermark(message_context().partition, at))


def _key(_: object) -> str:
    """Key a result by its partition, so that a watermark follows the sums from before it."""
    return str(message_context().partition)


def define_pipeline(records: StreamingDataFrame, results: Topic, gate: CommitGate, log_name: str) -> None:
    """Define how sizes become results.

    Args:
        log_name: names the topic of the records and all that are ever in it.
    """

    def encode_added(result: tuple[int, dict[str, tuple[int, int]]]) -> bytes:
        at = message_context()
        gate.on_added(at.partition, at.offset)
        return kafka_records.encode(Added(log_name, at.partition, at.offset, *result))

    records = records.filter(_is_whole, metadata=True)
    watermarks = records.filter(_is_watermark, metadata=True).apply(_encode_watermark, metadata=True)
    watermarks.to_topic(results, key=_key).sink(gate)
    forget = records.filter(_is_forget, metadata=True).apply(_encode_forget).filter(_is_result)
    forget.to_topic(results, key=_key).sink(gate)
    sizes = records.filter(_has_sizes, metadata=True)
    added = sizes.apply(add_up, stateful=True, metadata=True).filter(_adds).apply(encode_added)
    added.to_topic(results, key=_key)


def forget_changelogs(state: Path) -> None:
    """Make the local state the starting point on a broker that has no changelogs of it."""
    for file in state.rglob("CURRENT"):  # every RocksDB has one
        partition = RocksDBStorePartition(str(file.parent), ROCKSDB)
        try:
            partition.get_or_create_column_family(METADATA_CF_NAME).delete(CHANGELOG_OFFSET_KEY)
        finally:
            partition.close()  # type: ignore[no-untyped-call] # Quix leaves it bare


def skips(error: Exception, record: Any, _log: logging.Logger) -> bool:
    """Whether Quix skips a record, as its key cannot be decoded, or raises an error of its consumer.

    Whatever handles an error logs it. Some are part of normal operation, such as a commit that fails because
    the group is rebalancing.
    """
    if record is None:
        return False
    _skip(record.partition(), error)
    return True


def _skip(partition: int, reason: object) -> None:
    UNREADABLE_RECORDS.inc()
    log.warning("unreadable record in partition %d, not counted: %s", partition, reason)


def _raises(_error: Exception, _record: Any, _log: logging.Logger) -> bool:
    """Have Quix raise what a record has caused, and not log it: the supervisor does."""
    return False


class PollingApplication(Application):
    """Waits for records by the monotonic clock.

    librdkafka waits by the wall clock: once that is set back, a time-out would not end for long.
    """

    def _process_message(self, dataframe_composed: Any) -> None:
        try:
            super()._process_message(dataframe_composed)  # type: ignore[no-untyped-call] # Quix leaves it bare
        except KeyError as error:
            if error.args[0] != topics.CHANGELOG:
                raise
            # perhaps it is to be restored: the next pipeline begins with that
            raise StrayRecordError(f"a record of {topics.CHANGELOG} came late") from None
        if not self._run_tracker._message_consumed:
            time.sleep(POLL)


def create_application(kafka: KafkaSettings, group: str, instance: str, state: Path) -> Application:
    """Create the Quix application. A broker must answer.

    A real Kafka commits results, state and offsets in one transaction. The embedded broker has none; there,
    changelogs restore the state of the last commit, and reading results twice changes nothing.

    Args:
        instance: names this one among all that share the work, also after a restart: starting under a
            name ends the transaction that a dead process left open, which would block all consumers.
    """
    transactions = {"transactional.id": instance, "transaction.timeout.ms": 10_000}
    return PollingApplication(
        broker_address=topics.connection_config(kafka),
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        rocksdb_options=ROCKSDB,
        commit_interval=COMMIT_INTERVAL,
        consumer_poll_timeout=0.0,
        processing_guarantee="at-least-once" if kafka.embedded else "exactly-once",
        topic_manager=topics.topic_manager(kafka, group),
        broker_availability_timeout=0,  # librdkafka reconnects; the probe would block a stop
        on_consumer_error=skips,
        on_processing_error=_raises,
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
        """Run in the main thread; return whether the broker was lost.

        Raises:
            Exception: the pipeline or the reader of its results has failed; `diagnose` tells what it means.
        """
        try:
            self._app.run()
        except Exception:
            if not self.lost.is_set() and not self._stop.is_set():
                raise
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
