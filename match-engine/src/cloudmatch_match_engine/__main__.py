"""Run a worker: ``match-engine``."""

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import run
from cloudmatch_bus.process.settings import HttpSettings
from cloudmatch_match_engine.service import serve
from cloudmatch_match_engine.settings import MatchEngineSettings


def main() -> None:
    """Run a match-engine worker until SIGTERM or SIGINT."""
    run(serve, MatchEngineSettings, NatsSettings, HttpSettings)


if __name__ == "__main__":
    main()
