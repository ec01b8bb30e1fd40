"""One process of analytics: Quix in the main thread, HTTP in a thread beside it, the source in a child."""

import asyncio
import logging
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from cloudmatch_analytics import gateway, topics, windows
from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.ledger import Kept, Ledger, announcement
from cloudmatch_analytics.pipeline import LOST, Pipeline, WindowSink, compose, pipeline
from cloudmatch_analytics.pulse import SILENCE, Pulse
from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_analytics.source import AmqpSource
from cloudmatch_bus.health import Health
from cloudmatch_bus.http import serve
from cloudmatch_bus.service import Environment
from cloudmatch_bus.settings import AmqpSettings, CommonSettings, KafkaSettings

NAME = "analytics"

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
        # monotonic time of the last commit, s
        self._committed = 0.0
        # why the pipeline does not run, None when it does
        self._waiting: str | None = "the Kafka-protocol broker has not answered yet"

    def run(self) -> None:
        """Run until a signal, or a failure."""
        REGISTRY.register(self)
        self._ledger.restore(*self._archive.load())
        http = Http(self._settings, self._ledger, self._health())
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

    def _process(self, http: "Http") -> None:
        """Run pipelines, one after the other, until one is asked to stop: a lost broker ends one."""
        kafka = self._environment[KafkaSettings]
        while True:
            try:
                pipeline = self._pipeline(kafka, http)
            except StoppedError:
                return
            try:
                pipeline.run()
            except LOST as error:
                log.warning("Kafka is away: %s", error)
                self._waiting = "Kafka is away"
            if pipeline.asked:
                return

    def _pipeline(self, kafka: KafkaSettings, http: "Http") -> Pipeline:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stopped)
        while not topics.reachable(kafka.bootstrap, 1):
            if http.failed:
                raise StoppedError
        group = self._group(kafka.embedded)
        made = pipeline(kafka.bootstrap, group, self._folder, embedded=kafka.embedded)
        topic = made.topic(
            topics.SIZES,
            key_serializer="str",
            key_deserializer="str",
            config=topics.config(self._settings.replication),
        )
        partitions = topic.broker_config.num_partitions
        if partitions != topics.PARTITIONS:
            sys.exit(f"topic {topics.SIZES} has {partitions} partitions and must have {topics.PARTITIONS}")
        source = AmqpSource(self._environment[AmqpSettings], self._pulse)
        sink = WindowSink(self._ledger, self._changed)
        compose(made.dataframe(topic=topic, source=source), self._ledger, sink)
        self._waiting = "the pipeline has not passed a record yet"
        http.when_failed(made.stop)
        return made

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


class Http:
    """The HTTP side in a thread with an event loop of its own."""

    def __init__(self, settings: AnalyticsSettings, ledger: Ledger, health: Health) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        app = gateway.gateway(health, ledger, self._stop)
        serving = serve(app, NAME, settings.host, settings.port, self._stop)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="http")
        self._future: Future[None] = self._thread.submit(self._loop.run_until_complete, serving)

    @property
    def failed(self) -> bool:
        """Whether it has ended by itself."""
        return self._future.done()

    def when_failed(self, do: Callable[[], object]) -> None:
        """Do something when it ends, or at once when it has."""
        self._future.add_done_callback(lambda _: do())

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.shutdown()

    def result(self) -> None:
        """Raise what ended it, if that was an error."""
        self._loop.close()
        self._future.result()


def _stopped(*_: object) -> None:
    raise StoppedError
