"""Kafka → windows: the stream of sizes, each counted once, summed per sender in windows of event time.

What Quix keeps of a window stays open for `REMEMBERED`, so that what comes late only makes its sums grow.
When a window counts as closed is the ledger's business, which hears of all partitions.
"""

import threading
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
from cloudmatch_analytics.core.kafka_records import Batch
from cloudmatch_analytics.core.sizes import Size
from cloudmatch_analytics.core.windows import BASE, KEPT, Row
from cloudmatch_analytics.settings import KafkaSettings

REMEMBERED = timedelta(hours=1)  # event time after its arrival for which a size is known again
COMMIT = 0.25  # s between two commits
MIB = 1024 * 1024  # RocksDB holds 64 of them and more for each store and partition, if it is let

COUNTED = Counter("cloudmatch_analytics_counted", "Sizes counted in windows.")
DUPLICATES = Counter("cloudmatch_analytics_duplicates", "Sizes that came again and were left out.")

Pipeline = Application
State_ = State[str, list[str]]


class BrokerLostError(Exception):
    """The broker is known to have ended: what is not committed cannot be."""


# what the loss of the broker or of the source's process raises, or a stop while partitions are handed out
LOST = (
    BrokerLostError,
    BaseKafkaException,
    KafkaBrokerUnavailableError,
    PartitionAssignmentError,
    SourceException,
)


class Gate(BaseSink):
    """Knows when the pipeline begins (`begun` is called), and keeps it from committing once `lost` is set.

    Without it Quix would wait for a commit to a broker that has ended.
    """

    def __init__(self, begun: Callable[[], None], lost: threading.Event) -> None:
        super().__init__(on_client_connect_success=begun)
        self._lost = lost

    def add(self, *_: object, **__: object) -> None:
        """Take no notice."""

    def flush(self) -> None:
        """Let Quix commit, unless the broker has ended."""
        if self._lost.is_set():
            raise BrokerLostError("the Kafka-protocol broker has ended")


class SumBySender(BaseAggregator[dict[str, Any]]):
    """Sums of bytes and messages by sender. Its result are those that the last batch has changed."""

    state_suffix = "by-sender"

    def initialize(self) -> dict[str, Any]:
        """Begin with nobody."""
        return {"sums": {}, "changed": []}

    def agg(self, old: dict[str, Any], new: list[Size], timestamp: int) -> dict[str, Any]:
        """Add sizes."""
        sums = old["sums"]
        for size in new:
            of_sender = sums.setdefault(size.key, [0, 0])
            of_sender[0] += size.bytes
            of_sender[1] += 1
        return {"sums": sums, "changed": list({size.key for size in new})}

    def result(self, value: dict[str, Any]) -> dict[str, Any]:
        """Give what changed."""
        return {key: value["sums"][key] for key in value["changed"]}


def first_times(batch: Batch, _: object, at: int, __: object, state: State_) -> list[Size]:
    """Give the sizes of a batch that did not come before.

    Ids are remembered in lists, by the second of their payload's time, which a redelivery has too.
    """
    by_second: dict[int, list[Size]] = {}
    for size in batch.sizes:
        by_second.setdefault(size.at // 1000, []).append(size)
    news: list[Size] = []
    for second, sizes in by_second.items():
        before = state.get(str(second)) or []
        known = set(before)
        for size in sizes:
            if size.id is None:
                news.append(size)
            elif size.id not in known:
                known.add(size.id)
                before.append(size.id)
                news.append(size)
        # Quix counts from `at`, which may be long before the sizes came
        age = timedelta(milliseconds=max(0, batch.told - at))
        state.set(str(second), before, ttl=REMEMBERED + age)
    COUNTED.inc(len(news))
    DUPLICATES.inc(len(batch.sizes) - len(news))
    return news


def compose(
    sizes: StreamingDataFrame, results: Topic, gate: Gate, too_late: Callable[[list[Row]], None]
) -> None:
    """Lead a stream of sizes through windows to the results; `too_late` hears what no window takes."""

    def is_tick(_: object, key: str, __: int, ___: object) -> bool:
        return key == kafka_records.TICK

    def to_tick(_: object, __: str, at: int, ___: object) -> bytes:
        return kafka_records.encode(kafka_records.Tick(message_context().partition, at))

    def to_sums(window: dict[str, Any]) -> bytes:
        return kafka_records.encode(kafka_records.Sums(window["start"], window["sums"]))

    def on_late(value: Any, *_: Any) -> bool:
        too_late([Row(size.at - size.at % BASE, size.key, size.bytes, 1) for size in value])
        return False

    def by_partition(_: object) -> str:
        return str(message_context().partition)  # so that a tick follows the sums from before it

    ticks = sizes.filter(is_tick, metadata=True)
    ticks.apply(to_tick, metadata=True).to_topic(results, key=by_partition).sink(gate)
    batches = sizes.filter(lambda *record: not is_tick(*record), metadata=True).apply(
        kafka_records.decode_batch
    )
    batches = batches.apply(first_times, stateful=True, metadata=True).filter(bool)
    windows = batches.tumbling_window(BASE, grace_ms=KEPT, name="slices", on_late=on_late)  # type: ignore[arg-type] # takes all
    sums = windows.agg(sums=SumBySender()).current(closing_strategy="partition")
    sums.apply(to_sums).to_topic(results, key=by_partition)


def forget_changelogs(state: Path) -> None:
    """Let the state that is kept be the beginning on a broker that has no changelogs of it."""
    for file in state.rglob("CURRENT"):  # every RocksDB has one
        partition = RocksDBStorePartition(str(file.parent))
        partition.get_or_create_column_family(METADATA_CF_NAME).delete(CHANGELOG_OFFSET_KEY)
        partition.close()  # type: ignore[no-untyped-call] # Quix leaves it bare


def pipeline(kafka: KafkaSettings, group: str, instance: str, state: Path) -> Pipeline:
    """Make the application. A broker must answer.

    A real Kafka commits results, state and offsets in one transaction. The embedded broker has none; there,
    state is brought back from changelogs to what was committed, and results heard again change nothing.

    Args:
        instance: names this one among all that share the work, also after a restart: who starts under a
            name ends the transaction that a dead one has left open, which would hold up all readers.
    """
    return Pipeline(
        broker_address=topics.connection(kafka),
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        rocksdb_options=RocksDBOptions(write_buffer_size=MIB, block_cache_size=8 * MIB),
        commit_interval=COMMIT,
        consumer_poll_timeout=0.1,
        processing_guarantee="at-least-once" if kafka.embedded else "exactly-once",
        topic_manager=topics.manager(kafka, group),
        broker_availability_timeout=0,  # librdkafka comes back by itself; the probe would block the stop
        consumer_extra_config={
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "coordinator.query.interval.ms": 1000,
            "log_level": 3,
        },
        producer_extra_config={
            "linger.ms": 5,
            "log_level": 3,
            **({} if kafka.embedded else {"transactional.id": instance, "transaction.timeout.ms": 10_000}),
        },
        loglevel=None,
    )
