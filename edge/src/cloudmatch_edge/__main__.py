"""Run an edge: ``edge``."""

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import run
from cloudmatch_edge.service import serve
from cloudmatch_edge.settings import EdgeSettings


def main() -> None:
    """Run an edge until SIGTERM or SIGINT."""
    run(serve, EdgeSettings, NatsSettings)


if __name__ == "__main__":
    main()
