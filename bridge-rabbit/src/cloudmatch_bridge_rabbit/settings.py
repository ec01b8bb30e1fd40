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
    singles: Annotated[
        bool,
        Meta(
            description="Publish one message for each payload as well, to `cloudmatch.bytes`, as in 2019. "
            "Windows do not need it."
        ),
    ] = True
    queues: Annotated[
        str,
        Meta(
            description="More queues that get every size, comma-separated: `testqueue`, as in 2019. "
            "They need `CLOUDMATCH_BRIDGE_RABBIT_SINGLES`."
        ),
    ] = ""

    @property
    def plain_queues(self) -> list[str]:
        """The queues as a list."""
        return amqp.plain_queues(self.queues)

    def check(self) -> None:
        """Verify the names of the queues, and that they get something.

        Raises:
            SettingsError: one cannot be used.
        """
        queues, singles = (variable(BridgeSettings, name) for name in ("queues", "singles"))
        try:
            plain = amqp.plain_queues(self.queues)
        except ValueError as error:
            raise SettingsError(f"{queues}: {error}") from None
        if plain and not self.singles:
            raise SettingsError(f"{queues}: they get nothing while {singles} is off")
