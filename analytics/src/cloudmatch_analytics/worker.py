"""One process of analytics: Quix in the main thread, HTTP in a thread beside it, the source in a child."""

import logging
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from cloudmatch_analytics import topics, windows
from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.gateway import NAME, Http
from cloudmatch_analytics.ledger import Kept, Ledger, announcement
from cloudmatch_analytics.pipeline import LOST, Pipeline, WindowSink, compose, pipeline
from cloudmatch_analytics.pulse import SILENCE, Pulse
from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_analytics.source import AmqpSource
from cloudmatch_bus.health import Health
from cloudmatch_bus.service import Environment
from cloudmatch_bus.settings import AmqpSettings, CommonSettings, KafkaSettings

log = logging.getLogger("worker")


class StoppedError(Exception):
    """It is time to stop, and there is no pipeline yet."""


class Worker(Collector):
    """Analytics, from its settings."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._settings = environment[AnalyticsSettings]
        self._pulse = Pulse()
        self._ledger = Ledger(windows.SIZES, topics.PARTITIONS, self._settings.lag_ms)
        folder = Path(environment[CommonSettings].run_dir) / NAME
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._archive = Archive(self._folder / "windows.sqlite")
        # the pipeline, while there is one
        self._app: Pipeline | None = None
        # whether a signal came
        self._stopping = False
        # monotonic time of the last commit, s
        self._committed = 0.0
        # why the pipeline does not run, None when it does
        self._waiting: str | None = "the Kafka-protocol broker has not answered yet"

    def run(self) -> None:
        """Run until a signal, or a failure."""
        REGISTRY.register(self)
        self._ledger.restore(*self._archive.load())
        http = Http(self._settings.host, self._settings.port, self._ledger, self._health())
        try:
            self._process(http)
        finally:
            http.stop()
            self._archive.close()
        http.result()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give the counters of the source, for the metrics page."""
        yield CounterMetricFamily(
            "cloudmatch_analytics_messages", "Sizes taken from RabbitMQ.", value=self._pulse.taken
        )
        yield CounterMetricFamily(
            "cloudmatch_analytics_rejected", "Messages nobody can read.", value=self._pulse.rejected
        )

    def _process(self, http: Http) -> None:
        """Run one pipeline after the other until it is time to stop: a lost broker ends one."""
        kafka = self._environment[KafkaSettings]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        while not self._stopping:
            lost = threading.Event()
            try:
                self._build(kafka, http, lost)
            except StoppedError:
                return
            assert self._app
            try:
                self._app.run()
            except LOST as error:
                if not lost.is_set():
                    log.warning("Kafka is away: %s", error)
                lost.set()
            if not lost.is_set():
                return
            self._app = None
            self._waiting = "the Kafka-protocol broker is away"

    def _signalled(self, *_: object) -> None:
        self._stopping = True
        if self._app is None:
            raise StoppedError
        self._app.stop()

    def _build(self, kafka: KafkaSettings, http: Http, lost: threading.Event) -> None:
        """Make a pipeline as soon as there is a broker; `lost` is set when that broker ends."""
        while not topics.reachable(kafka.bootstrap, 1):
            if http.failed:
                raise StoppedError

        def broken() -> None:
            if not self._stopping:
                log.warning("the Kafka-protocol broker has ended")
            lost.set()
            app.stop()

        def begun() -> None:  # Quix has just put its own handlers in the place of ours
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._signalled)
            if self._stopping or lost.is_set() or http.failed:
                app.stop()

        group = self._group(kafka.embedded)
        app = pipeline(kafka.bootstrap, group, self._folder, embedded=kafka.embedded)
        topic = app.topic(
            topics.SIZES,
            key_serializer="str",
            key_deserializer="str",
            config=topics.config(self._settings.replication),
        )
        partitions = topic.broker_config.num_partitions
        if partitions != topics.PARTITIONS:
            sys.exit(f"topic {topics.SIZES} has {partitions} partitions and must have {topics.PARTITIONS}")
        if kafka.embedded:
            topics.Leash(kafka.bootstrap, broken)
            self._know(kafka.bootstrap, group)
        source = AmqpSource(self._environment[AmqpSettings], self._pulse)
        sink = WindowSink(self._ledger, self._changed, begun, lost)
        compose(app.dataframe(topic=topic, source=source), self._ledger, sink)
        http.when_failed(app.stop)
        self._waiting = "the pipeline has not passed a record yet"
        self._app = app

    def _know(self, bootstrap: str, group: str) -> None:
        """See to it that a broker other than the last one is read from its beginning."""
        file = self._folder / "broker"
        mark = topics.mark(bootstrap)
        if not file.exists() or file.read_text() != mark:
            if file.exists():
                log.info("another broker than before: reads it from the beginning")
            topics.rewind(bootstrap, group)
            file.write_text(mark)

    def _group(self, embedded: bool) -> str:
        """Name the consumer group. State and offsets belong together: with a lost folder, both start anew.

        A real Kafka keeps the state too, as changelogs, so the group there is always the same.
        """
        if not embedded:
            return NAME
        file = self._folder / "group"
        if not file.exists():
            log.info("no state in %s: starts with all that the broker holds", self._folder)
            file.write_text(f"{NAME}-{uuid.uuid4().hex[:8]}\n")
        return file.read_text().strip()

    def _changed(self, rows: list[windows.Row], kept: list[Kept], closed: list[windows.Window]) -> None:
        self._archive.save(rows, kept)
        for window in closed:
            log.info("%s", announcement(window))
        self._committed = time.monotonic()
        self._waiting = None

    def _health(self) -> Health:
        health = Health()
        health.check("source", lambda: self._pulse.trouble)
        health.check("pipeline", self._trouble)
        return health

    def _trouble(self) -> str | None:
        if self._waiting or self._pulse.trouble:  # without ticks of the source there is nothing to commit
            return self._waiting
        silent = time.monotonic() - self._committed
        return f"no commit for {silent:.0f} s" if silent > SILENCE else None
