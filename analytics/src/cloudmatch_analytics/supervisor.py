"""Run one pipeline after another: each ends when its broker or its source is lost."""

import logging
import threading
import time
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
    diagnose,
    forget_changelogs,
)
from cloudmatch_analytics.put_aside import put_aside
from cloudmatch_analytics.results import Results
from cloudmatch_analytics.settings import AnalyticsSettings, KafkaSettings
from cloudmatch_analytics.source import AmqpSource
from cloudmatch_analytics.source_status import SILENCE, SourceStatus
from cloudmatch_analytics.window_store import WindowStore
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import AmqpSettings

GROUP = "analytics"  # consumer group, and the beginning of every instance's name

PAUSE = 0.1, 15.0  # s between two pipelines when one has failed: the first, the longest

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
        pause = PAUSE[0]
        while (broker := self._await_broker(stop)) is not None:
            began = time.monotonic()
            try:
                self._pipeline = self._build(broker, stop)
                if stop.is_set() or not self._pipeline.run():
                    return
                self._reason, pause = "the Kafka-protocol broker is unreachable", 0.0
            except Exception as error:  # noqa: BLE001 # whatever it is, what is known is served, and this is tried again
                self._handle(error)
            finally:
                self._pipeline = None
            if time.monotonic() - began > PAUSE[-1]:
                pause = 0.0
            stop.wait(pause)
            pause = min(max(2 * pause, PAUSE[0]), PAUSE[-1])

    def _handle(self, error: Exception) -> None:
        """Say once why a pipeline has failed, and make the local state fit for the next one."""
        failure = diagnose(error)
        reason = f"pipeline failed: {failure.text}"
        try:
            if failure.damaged:
                name = put_aside(self._folder / GROUP)
                self._reason = f"damaged state put aside as {name}, Kafka has it: {failure.text}"
                log.warning("%s", self._reason)
                return
            if failure.foreign:
                forget_changelogs(self._folder)
        except Exception as another:  # noqa: BLE001 # the disk fails as well, or a database cannot be opened
            reason += f"; {diagnose(another).text}"
        if reason != self._reason:
            log.warning("%s", reason, exc_info=None if failure.expected else error)
        self._reason = reason

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
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._is_new_broker(broker):
            forget_changelogs(self._folder)
            _write(self._broker_file, broker)
        app = create_application(self._kafka, GROUP, self._instance(), self._folder)
        incoming, outgoing = topics.declare(app, self._partitions, self._replication)
        results_name = topics.identity(self._kafka, broker, topics.RESULTS)
        results = Results(self._kafka, results_name, self._partitions, self._windows, self._archive)
        pipeline = Pipeline(app, results, stop)
        if self._kafka.embedded:
            topics.BrokerWatch(self._kafka.bootstrap, pipeline.on_broker_lost)
        source = AmqpSource(self._amqp, self._kafka, GROUP, self._partitions, self._status, self._clock)
        log_name = topics.identity(self._kafka, broker, topics.SIZES)

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
        name = file.read_text() if file.exists() else ""
        if not name:
            name = f"{GROUP}-{uuid.uuid4().hex[:12]}"
            _write(file, name)
        return name

    def _is_new_broker(self, broker: str) -> bool:
        """Whether this is not the broker that the local state belongs to."""
        known = self._broker_file.read_text() if self._broker_file.exists() else None
        if known not in (None, broker):
            log.info("new Kafka-protocol broker: continuing from the local state")
        return known != broker


def _write(file: Path, text: str) -> None:
    """Write a small file whole, or not at all."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)
