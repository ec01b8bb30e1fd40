"""Run an edge: ``edge``."""

from cloudmatch_bus.service import run
from cloudmatch_bus.settings import NatsSettings
from cloudmatch_edge.gateway import serve_devices
from cloudmatch_edge.settings import EdgeSettings


def main() -> None:
    """Run an edge until SIGTERM or SIGINT."""
    run(serve_devices, EdgeSettings, NatsSettings)


if __name__ == "__main__":
    main()
