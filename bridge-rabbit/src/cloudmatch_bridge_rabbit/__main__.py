"""Run the bridge."""

from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bridge_rabbit.worker import serve
from cloudmatch_bus.service import run
from cloudmatch_bus.settings import AmqpSettings, NatsSettings


def main() -> None:
    """Run the bridge until SIGTERM."""
    run(serve, NatsSettings, AmqpSettings, BridgeSettings)


if __name__ == "__main__":
    main()
