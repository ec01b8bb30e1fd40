"""The settings of analytics."""

from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.process.settings import Port, Settings


class AnalyticsSettings(Settings, frozen=True, kw_only=True):
    """Where analytics listens, and how long a window waits for what is late."""

    prefix = "CLOUDMATCH_ANALYTICS"

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="HTTP port (0: a free one).")] = 8085
    lag_ms: Annotated[
        int, Meta(ge=0, le=60_000, description="How long after its end a window still takes payloads (ms).")
    ] = 1000
    replication: Annotated[int, Meta(ge=1, le=9, description="Replicas of the topics on a real Kafka.")] = 1
