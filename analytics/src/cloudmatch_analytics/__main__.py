"""Run analytics: ``analytics`` or ``python -m cloudmatch_analytics``."""

import logging

from cloudmatch_analytics.settings import AnalyticsSettings, KafkaSettings
from cloudmatch_analytics.supervisor import Worker
from cloudmatch_bus.process.runner import exit_on_settings_error, setup
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    environment = setup(AnalyticsSettings, AmqpSettings, KafkaSettings, HttpSettings)
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    with exit_on_settings_error():
        Worker(environment).run()


if __name__ == "__main__":
    main()
