"""Run the journal."""

from cloudmatch_bus.service import run
from cloudmatch_bus.settings import NatsSettings
from cloudmatch_journal.settings import JournalSettings
from cloudmatch_journal.worker import serve


def main() -> None:
    """Run the journal until SIGTERM."""
    run(serve, NatsSettings, JournalSettings)


if __name__ == "__main__":
    main()
