"""Kafka → windows: the stream of sizes, each counted once, summed per sender in windows of event time.

A record's time is the payload's. Quix gives a sender's sums when its partition has seen a later time than
the window's end; ticks of the source see to it that this happens without payloads. What comes after that
is added to the sums in the ledger, which waits `lag` longer before it calls the window closed. (Quix'
own grace is not used: with windows that close by partition it opens the last one anew and never gives it.)
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client import Counter
from quixstreams import Application, State, message_context
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.dataframe.windows import Sum
from quixstreams.kafka.exceptions import BaseKafkaException, KafkaBrokerUnavailableError
from quixstreams.sinks.base import BatchingSink, SinkBatch

from cloudmatch_analytics import topics
from cloudmatch_analytics.ledger import Kept, Ledger
from cloudmatch_analytics.windows import Row, Window

REMEMBERED = timedelta(hours=1)  # event time for which a message id is known again
COMMIT = 0.25  # s between two commits; a window shows at the commit after it closed

COUNTED = Counter("cloudmatch_analytics_counted", "Sizes counted in windows.")
DUPLICATES = Counter("cloudmatch_analytics_duplicates", "Sizes that came again and were left out.")
LATE = Counter("cloudmatch_analytics_late", "Sizes added to a window that was closed; one a window.")

Pipeline = Application

Changed = Callable[[list[Row], list[Kept], list[Window]], None]


class BrokerLostError(Exception):
    """The broker is known to have ended: what is not committed cannot be."""


LOST = (BrokerLostError, BaseKafkaException, KafkaBrokerUnavailableError)  # what its loss raises


class WindowSink(BatchingSink):
    """Writes sums of closed windows to the ledger when Quix commits, then tells `changed`.

    `begun` is called once the pipeline runs. Once `lost` is set it refuses, which keeps Quix from waiting
    for a commit to a broker that has ended.
    """

    def __init__(
        self, ledger: Ledger, changed: Changed, begun: Callable[[], None], lost: threading.Event
    ) -> None:
        super().__init__(on_client_connect_success=begun)
        self._lost = lost
        self._ledger = ledger
        self._changed = changed
        self._final: list[Row] = []
        self._late: list[Row] = []

    def write(self, batch: SinkBatch) -> None:
        """Collect the rows of one partition."""
        for item in batch:
            value = item.value
            row = Row(value["end"] - value["start"], value["start"], item.key, value["bytes"], value["n"])
            (self._late if value.get("late") else self._final).append(row)

    def flush(self) -> None:
        """Bring everything collected to the ledger, and close what event time has left."""
        if self._lost.is_set():
            raise BrokerLostError("the Kafka-protocol broker has ended")
        super().flush()  # type: ignore[no-untyped-call] # Quix leaves it bare
        final, self._final = self._final, []
        late, self._late = self._late, []
        LATE.inc(sum(row.start + row.size <= self._ledger.closed_until(row.size) for row in late))
        rows = self._ledger.close(final, late)
        closed = self._ledger.settle()
        self._changed(rows, self._ledger.kept(), closed)

    def late(
        self,
        value: Any,
        key: Any,
        timestamp_ms: int,
        late_by_ms: int,
        start: int,
        end: int,
        store_name: str,
        topic: str,
        partition: int,
        offset: int,
    ) -> bool:
        """Keep what came after its window closed (Quix' `on_late`); tell Quix not to log it."""
        if value["n"]:
            row = {"start": start, "end": end, "bytes": value["bytes"], "n": value["n"], "late": True}
            self.add(row, key, timestamp_ms, [], topic, partition, offset)
        return False


def first_time(value: dict[str, Any], state: State[str, int]) -> bool:
    """Tell whether a record is for the windows: a tick, or a size not seen before from this sender."""
    if not value["n"]:
        return True
    identity = value["id"]
    if identity is not None:
        if state.exists(identity):
            DUPLICATES.inc()
            return False
        state.set(identity, 1, ttl=REMEMBERED)
    COUNTED.inc()
    return True


def compose(records: StreamingDataFrame, ledger: Ledger, sink: WindowSink) -> None:
    """Lead a stream of sizes through windows of all the ledger's sizes into the sink."""

    def pass_time(_: Any, __: Any, at: int, ___: Any) -> None:
        ledger.advance(message_context().partition, at)

    records = records.update(pass_time, metadata=True).filter(first_time, stateful=True)
    for name, size in ledger.sizes.items():
        windows = records.tumbling_window(
            size, name=name, on_late=sink.late, after_update=_running(ledger, size)
        )
        sums = windows.agg(bytes=Sum("bytes"), n=Sum("n")).final(closing_strategy="partition")
        sums.filter(lambda window: window["n"] > 0).sink(sink)


def _running(ledger: Ledger, size: int) -> Callable[[Any, Any, Any, int, Any], bool]:
    """Make an observer of running windows: Quix shows it each new sum, it never asks to close one."""

    def observe(sums: dict[str, int], value: dict[str, Any], key: Any, at: int, _: Any) -> bool:
        if value["n"]:
            total = {name.partition("/")[0]: number for name, number in sums.items()}
            ledger.run(Row(size, at - at % size, key, total["bytes"], total["n"]))
        return False

    return observe


def pipeline(bootstrap: str, group: str, state: Path, *, embedded: bool) -> Pipeline:
    """Make the application. A broker must answer.

    The embedded broker has no use for changelogs: what they would bring back goes with it.
    """
    return Pipeline(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        commit_interval=COMMIT,
        consumer_poll_timeout=0.1,
        use_changelog_topics=not embedded,
        topic_manager=topics.manager(bootstrap, group, embedded),
        broker_availability_timeout=0,  # librdkafka comes back by itself; the probe would block the stop
        consumer_extra_config={
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "coordinator.query.interval.ms": 1000,
            "log_level": 3,
        },
        producer_extra_config={"linger.ms": 5, "log_level": 3},
        loglevel=None,
    )
