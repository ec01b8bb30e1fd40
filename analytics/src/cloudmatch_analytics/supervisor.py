"""One process of analytics: Quix in the main thread, HTTP and the results' reader in threads beside it,
the source in a child."""

import logging
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from cloudmatch_analytics import topics
from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import PARTITIONS
from cloudmatch_analytics.http_api import NAME, Http
from cloudmatch_analytics.pipeline import LOST, Gate, Pipeline, compose, forget_changelogs, pipeline
from cloudmatch_analytics.results import Results, tell_too_late
from cloudmatch_analytics.settings import AnalyticsSettings, KafkaSettings
from cloudmatch_analytics.source import AmqpSource
from cloudmatch_analytics.source_status import SILENCE, Pulse
from cloudmatch_analytics.window_store import Ledger
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import AmqpSettings, CommonSettings, HttpSettings, variable

log = logging.getLogger("worker")


class StoppedError(Exception):
    """It is time to stop, and there is no pipeline yet."""


class Worker(Collector):
    """Analytics, from its settings."""

    def __init__(self, environment: Environment) -> None:
        self._settings = environment[AnalyticsSettings]
        self._amqp = environment[AmqpSettings]
        self._kafka = environment[KafkaSettings]
        self._origins = environment[HttpSettings].allowed_origins
        self._pulse = Pulse()
        self._ledger = Ledger(PARTITIONS, self._settings.lag_ms)
        self._folder = (Path(environment[CommonSettings].run_dir) / NAME).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._archive = Archive(self._folder / "slices.sqlite")
        # names the broker that the state is of
        self._mark = self._folder / "broker"
        # the pipeline and the reader of its results, while there are
        self._app: Pipeline | None = None
        self._results: Results | None = None
        # whether a signal came
        self._stopping = False
        # why there is no pipeline
        self._waiting = "the Kafka-protocol broker has not answered yet"

    def run(self) -> None:
        """Run until a signal, or a failure.

        Raises:
            SettingsError: the HTTP side's port cannot be taken.
        """
        sock = listen(self._settings.host, self._settings.port, variable(AnalyticsSettings, "port"))
        REGISTRY.register(self)
        self._ledger.restore(*self._archive.load())
        http = Http(sock, self._ledger, self._health(), self._origins)
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
        """Run one pipeline after the other until it is time to stop: a lost broker or source ends one."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        while not self._stopping:
            lost = threading.Event()
            try:
                self._build(http, lost)
            except StoppedError:
                return
            assert self._app
            assert self._results
            try:
                self._app.run()
            except LOST as error:
                if not lost.is_set() and not self._stopping:
                    log.warning("the pipeline starts again: %s", error)
                lost.set()
            finally:
                self._results.stop()
            if not lost.is_set():
                return
            self._app = None
            self._waiting = "the Kafka-protocol broker is away"

    def _signalled(self, *_: object) -> None:
        self._stopping = True
        if self._app is None:
            raise StoppedError
        self._app.stop()

    def _build(self, http: Http, lost: threading.Event) -> None:
        """Make a pipeline as soon as there is a broker; `lost` is set when that broker ends."""
        while (broker := topics.identity(self._kafka, 1)) is None:
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
            results.start(app.stop)

        if self._stranger(broker):
            forget_changelogs(self._folder)
            self._mark.write_text(broker)
        results = Results(self._kafka, broker, self._ledger, self._archive)
        app = pipeline(self._kafka, NAME, self._instance(), self._folder)
        incoming, outgoing = topics.declare(app, self._settings.replication)
        if self._kafka.embedded:
            topics.Leash(self._kafka.bootstrap, broken)
        sizes = app.dataframe(topic=incoming, source=AmqpSource(self._amqp, self._pulse))
        compose(sizes, outgoing, Gate(begun, lost), tell_too_late)
        http.when_failed(app.stop)
        self._app, self._results = app, results

    def _instance(self) -> str:
        """Name this instance, for as long as its folder lives."""
        file = self._folder / "instance"
        if not file.exists():
            file.write_text(f"{NAME}-{uuid.uuid4().hex[:12]}")
        return file.read_text()

    def _stranger(self, broker: str) -> bool:
        """Tell whether this is another broker than the last one."""
        known = self._mark.read_text() if self._mark.exists() else None
        if known not in (None, broker):
            log.info("another broker than before: goes on with the state that is here")
        return known != broker

    def _health(self) -> Health:
        health = Health()
        health.set_check("source", lambda: self._pulse.trouble)
        health.set_check("pipeline", self._trouble)
        return health

    def _trouble(self) -> str | None:
        if self._app is None or self._results is None:
            return self._waiting
        if self._results.heard == 0.0:
            return "the pipeline has not passed a record yet"
        silent = time.monotonic() - self._results.heard
        if silent <= SILENCE or self._pulse.trouble:  # without ticks of the source there is nothing to hear
            return None
        return f"no result for {silent:.0f} s"
