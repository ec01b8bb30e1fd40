"""Run one pipeline after another: each ends when its broker or its source is lost."""

import logging
import threading
import uuid
from pathlib import Path

from cloudmatch_analytics import topics
from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.clock import Clock
from cloudmatch_analytics.embedded_broker import EMBEDDED_PARTITIONS
from cloudmatch_analytics.pipeline import (
    CommitGate,
    Pipeline,
    create_application,
    define_pipeline,
    forget_changelogs,
)
from cloudmatch_analytics.results import Results
from cloudmatch_analytics.settings import AnalyticsSettings, KafkaSettings
from cloudmatch_analytics.source import AmqpSource
from cloudmatch_analytics.source_status import SILENCE, SourceStatus
from cloudmatch_analytics.window_store import WindowStore
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import AmqpSettings

GROUP = "analytics"  # consumer group, and the beginning of every instance's name

log = logging.getLogger("supervisor")


def partitions(environment: Environment) -> int:
    """Return the number of partitions of each topic."""
    if environment[KafkaSettings].embedded:
        return EMBEDDED_PARTITIONS
    return environment[AnalyticsSettings].partitions


class Supervisor:
    """Runs pipelines over a folder of local state."""

    def __init__(
        self,
        environment: Environment,
        folder: Path,
        windows: WindowStore,
        archive: Archive,
        status: SourceStatus,
        clock: Clock,
    ) -> None:
        self._amqp = environment[AmqpSettings]
        self._kafka = environment[KafkaSettings]
        self._replication = environment[AnalyticsSettings].replication
        self._partitions = partitions(environment)
        self._folder = folder
        self._windows = windows
        self._archive = archive
        self._status = status
        self._clock = clock
        # the running pipeline, and why there is none
        self._pipeline: Pipeline | None = None
        self._reason = "the Kafka-protocol broker has not answered yet"

    def run(self, stop: threading.Event) -> None:
        """Run pipelines in the main thread until `stop`."""
        threading.Thread(target=self._end_at, args=(stop,), name="stop", daemon=True).start()
        while (broker := self._await_broker(stop)) is not None:
            self._pipeline = self._build(broker, stop)
            if stop.is_set() or not self._pipeline.run():
                return
            self._pipeline = None
            self._reason = "the Kafka-protocol broker is unreachable"

    def problem(self) -> str | None:
        """Return why no results arrive; None when they do."""
        if self._pipeline is None:
            return self._reason
        silence = self._pipeline.silence
        if silence is None:
            return "the pipeline has not passed a record yet"
        if silence <= SILENCE or self._status.problem:  # no watermarks of the source, no results
            return None
        return f"no result for {silence:.0f} s"

    def _end_at(self, stop: threading.Event) -> None:
        stop.wait()
        if self._pipeline is not None:
            self._pipeline.end()

    def _await_broker(self, stop: threading.Event) -> str | None:
        """Return the identity of the broker once it answers; None when `stop` comes first."""
        while not stop.is_set():
            if (broker := topics.broker_identity(self._kafka, 1)) is not None:
                return broker
        return None

    def _build(self, broker: str, stop: threading.Event) -> Pipeline:
        if self._is_new_broker(broker):
            forget_changelogs(self._folder)
            self._broker_file.write_text(broker)
        app = create_application(self._kafka, GROUP, self._instance(), self._folder)
        incoming, outgoing = topics.declare(app, self._partitions, self._replication)
        results = Results(self._kafka, broker, self._partitions, self._windows, self._archive)
        pipeline = Pipeline(app, results, stop)
        if self._kafka.embedded:
            topics.BrokerWatch(self._kafka.bootstrap, pipeline.on_broker_lost)
        source = AmqpSource(self._amqp, self._kafka, GROUP, self._partitions, self._status, self._clock)
        log_name = topics.log_identity(self._kafka, broker)

        def read() -> dict[int, int]:
            offsets = self._windows.offsets()
            return {partition: last for (name, partition), last in offsets.items() if name == log_name}

        gate = CommitGate(pipeline.on_started, pipeline.lost, read if self._kafka.embedded else None)
        records = app.dataframe(topic=incoming, source=source)
        define_pipeline(records, outgoing, gate, log_name)
        return pipeline

    @property
    def _broker_file(self) -> Path:
        """Holds the identity of the broker that the local state belongs to."""
        return self._folder / "broker"

    def _instance(self) -> str:
        """Return the name of this instance, the same as long as its folder exists."""
        file = self._folder / "instance"
        if not file.exists():
            file.write_text(f"{GROUP}-{uuid.uuid4().hex[:12]}")
        return file.read_text()

    def _is_new_broker(self, broker: str) -> bool:
        """Whether this is not the broker that the local state belongs to."""
        known = self._broker_file.read_text() if self._broker_file.exists() else None
        if known not in (None, broker):
            log.info("new Kafka-protocol broker: continuing from the local state")
        return known != broker
