"""Run the journal, or one of its commands."""

import typer

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import run
from cloudmatch_bus.process.settings import HttpSettings
from cloudmatch_journal.cli import command
from cloudmatch_journal.settings import JournalSettings


@command.callback(invoke_without_command=True)
def journal(context: typer.Context) -> None:
    """Store every fact on the bus and serve them over HTTP, until SIGTERM.

    Settings are environment variables CLOUDMATCH_JOURNAL_…; the commands read the same ones.
    """
    if context.invoked_subcommand is None:
        from cloudmatch_journal.service import serve  # not at the top: commands start faster without it

        run(serve, NatsSettings, HttpSettings, JournalSettings)


def main() -> None:
    """Run the command line."""
    command()


if __name__ == "__main__":
    main()
