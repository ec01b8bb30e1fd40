"""Run analytics: ``analytics`` or ``python -m cloudmatch_analytics``."""

import logging
import signal
import threading

from cloudmatch_analytics.pipeline import SIGNALS
from cloudmatch_analytics.service import serve
from cloudmatch_analytics.settings import AnalyticsSettings, KafkaSettings
from cloudmatch_bus.process.runner import exit_on_settings_error, setup
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings


def main() -> None:
    """Run analytics until SIGTERM or SIGINT."""
    environment = setup(AnalyticsSettings, AmqpSettings, KafkaSettings, HttpSettings)
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        for number in SIGNALS:  # `set` takes a lock: a second signal must not call it inside the first call
            signal.signal(number, ignore)
        stop.set()

    def ignore(*_: object) -> None:
        pass

    for number in SIGNALS:
        signal.signal(number, on_signal)
    with exit_on_settings_error():
        serve(environment, stop)


if __name__ == "__main__":
    main()
