"""Run analytics: ``analytics`` or ``python -m cloudmatch_analytics``."""

import logging

from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_analytics.supervisor import Worker
from cloudmatch_bus.process.runner import prepare, refusing
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings, KafkaSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    environment = prepare(AnalyticsSettings, AmqpSettings, KafkaSettings, HttpSettings)
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    with refusing():
        Worker(environment).run()


if __name__ == "__main__":
    main()
