"""Kafka → windows: the stream of sizes, each counted once, summed per sender in windows of event time.

A record's time is the payload's. A window of a partition closes when the partition has seen a record that
is `lag` later than the window's end; ticks of the source see to it that this happens without payloads.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.dataframe.windows import Sum
from quixstreams.sinks.base import BatchingSink, SinkBatch

from cloudmatch_analytics import topics
from cloudmatch_analytics.ledger import Kept, Ledger
from cloudmatch_analytics.windows import Row, Window

REMEMBERED = timedelta(hours=1)  # event time for which a message id is known again
COMMIT = 0.25  # s between two commits; a window shows at the commit after it closed

log = logging.getLogger("pipeline")

Changed = Callable[[list[Row], list[Kept], list[Window]], None]


class WindowSink(BatchingSink):
    """Writes sums of closed windows to the ledger when Quix commits, then tells `changed`."""

    def __init__(self, ledger: Ledger, changed: Changed) -> None:
        super().__init__(on_client_connect_success=lambda: None)
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
        super().flush()  # type: ignore[no-untyped-call] # Quix leaves it bare
        final, self._final = self._final, []
        late, self._late = self._late, []
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
    """Tell whether a record counts: it has no id, or one not seen before from this sender."""
    identity = value["id"]
    if identity is None:
        return True
    if state.exists(identity):
        return False
    state.set(identity, 1, ttl=REMEMBERED)
    return True


def compose(records: StreamingDataFrame, ledger: Ledger, sink: WindowSink, lag: int) -> None:
    """Lead a stream of sizes through windows of all the ledger's sizes into the sink."""

    def pass_time(_: Any, __: Any, at: int, ___: Any) -> None:
        ledger.advance(message_context().partition, at)

    records = records.update(pass_time, metadata=True).filter(first_time, stateful=True)
    for name, size in ledger.sizes.items():
        windows = records.tumbling_window(
            size, grace_ms=lag, name=name, on_late=sink.late, after_update=_running(ledger, size)
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


def application(bootstrap: str, group: str, state: Path, *, embedded: bool) -> Application:
    """Make the Quix application. Blocks until a broker answers, 30 s at most.

    The embedded broker has no use for changelogs: what they would bring back goes with it.
    """
    return Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        commit_interval=COMMIT,
        consumer_poll_timeout=0.1,
        use_changelog_topics=not embedded,
        topic_manager=topics.manager(bootstrap, group, embedded),
        broker_availability_timeout=30,
        consumer_extra_config={"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "log_level": 3},
        producer_extra_config={"linger.ms": 5, "log_level": 3},
        loglevel=None,
    )
