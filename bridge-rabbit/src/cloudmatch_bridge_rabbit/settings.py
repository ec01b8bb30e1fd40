"""The bridge's settings."""

from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.process.settings import Port, Settings


class BridgeSettings(Settings, frozen=True, kw_only=True):
    """Where the bridge serves its probes and metrics."""

    prefix = "CLOUDMATCH_BRIDGE_RABBIT"

    host: Annotated[str, Meta(description="Address on which the bridge listens.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port on which the bridge listens.")] = 8083
