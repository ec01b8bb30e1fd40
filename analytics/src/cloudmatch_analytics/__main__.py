"""Run analytics: ``analytics`` or ``python -m cloudmatch_analytics``."""

import logging

from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_analytics.worker import Worker
from cloudmatch_bus.service import prepare, refusing
from cloudmatch_bus.settings import AmqpSettings, HttpSettings, KafkaSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    environment = prepare(AnalyticsSettings, AmqpSettings, KafkaSettings, HttpSettings)
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    with refusing():
        Worker(environment).run()


if __name__ == "__main__":
    main()
