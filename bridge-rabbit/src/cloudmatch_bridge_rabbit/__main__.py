"""Run the bridge, or one of its commands."""

import typer

from cloudmatch_bridge_rabbit.cli import command
from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import run
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings


@command.callback(invoke_without_command=True)
def bridge(context: typer.Context) -> None:
    """Forward the size of every payload from the bus to RabbitMQ, until SIGTERM.

    Settings are environment variables; the commands read the same CLOUDMATCH_AMQP_… as the service.
    """
    if context.invoked_subcommand is None:
        from cloudmatch_bridge_rabbit.service import serve  # not at the top: commands start faster without it

        run(serve, NatsSettings, AmqpSettings, HttpSettings, BridgeSettings)


def main() -> None:
    """Run the command line."""
    command()


if __name__ == "__main__":
    main()
