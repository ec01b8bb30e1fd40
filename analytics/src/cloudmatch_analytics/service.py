"""Analytics: Quix in the main thread, HTTP and results in threads, the source in a process of its own."""

import logging
import threading
from pathlib import Path

from prometheus_client import REGISTRY

from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.clock import Clock
from cloudmatch_analytics.http_api import NAME, HttpThread
from cloudmatch_analytics.results import REOPENED
from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_analytics.source_status import SourceMetrics, SourceStatus
from cloudmatch_analytics.supervisor import Supervisor, partitions
from cloudmatch_analytics.window_store import WindowStore
from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten
from cloudmatch_bus.process import http_keys
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen, listen_also
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import CommonSettings, HttpSettings, variable

log = logging.getLogger("service")


def serve(environment: Environment, stop: threading.Event) -> None:
    """Run analytics until `stop`, in the main thread: Quix installs signal handlers.

    Raises:
        SettingsError: the HTTP port cannot be used.
    """
    settings = environment[AnalyticsSettings]
    keys = http_keys.required(environment[HttpSettings], settings.host, variable(AnalyticsSettings, "host"))
    sockets = [
        listen(settings.host, settings.port, variable(AnalyticsSettings, "port")),
        *listen_also(settings.host, settings.legacy_port, variable(AnalyticsSettings, "legacy_port")),
    ]
    status = SourceStatus([amqp_batches.QUEUE, amqp_forgotten.QUEUE, amqp.QUEUE, *settings.plain_queues])
    REGISTRY.register(SourceMetrics(status))
    folder = (Path(environment[CommonSettings].run_dir) / NAME).absolute()
    archive = Archive(folder / "slices.sqlite")
    clock = Clock()
    windows = WindowStore(partitions(environment), settings.lag_ms, clock.now)
    if windows.restore(*archive.load()):
        log.warning("%s", REOPENED)
    supervisor = Supervisor(environment, folder, windows, archive, status, clock)
    health = Health()
    health.set_check("source", lambda: status.problem)
    health.set_check("pipeline", supervisor.problem)
    health.set_check("archive", lambda: archive.problem)
    # without input no window closes: that is one reason, not two
    health.set_check("windows", lambda: None if status.problem or supervisor.problem() else windows.problem())
    http = HttpThread(sockets, windows, health, environment[HttpSettings], settings.listeners, keys)
    http.on_end(stop.set)
    try:
        supervisor.run(stop)
    finally:
        http.stop()
        archive.close()
    http.result()
