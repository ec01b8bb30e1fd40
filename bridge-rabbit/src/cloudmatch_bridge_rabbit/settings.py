"""The bridge's settings."""

from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.contract import amqp
from cloudmatch_bus.process.settings import Port, Settings, SettingsError, variable


class BridgeSettings(Settings, frozen=True, kw_only=True):
    """Where the bridge serves its probes and metrics, and for whom else it publishes."""

    prefix = "CLOUDMATCH_BRIDGE_RABBIT"

    host: Annotated[str, Meta(description="Address on which the bridge listens.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port on which the bridge listens.")] = 8083
    queues: Annotated[
        str,
        Meta(description="More queues that get every size, comma-separated: `testqueue`, as in 2019."),
    ] = ""

    @property
    def plain_queues(self) -> list[str]:
        """The queues as a list."""
        return amqp.plain_queues(self.queues)

    def check(self) -> None:
        """Verify the names of the queues.

        Raises:
            SettingsError: one cannot be used.
        """
        try:
            amqp.plain_queues(self.queues)
        except ValueError as error:
            raise SettingsError(f"{variable(BridgeSettings, 'queues')}: {error}") from None
