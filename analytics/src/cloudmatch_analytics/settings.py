"""The settings of analytics."""

import typing
from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.contract import amqp
from cloudmatch_bus.process.settings import Port, PositiveInt, Settings, SettingsError, variable

LISTENERS = 1000


class AnalyticsSettings(Settings, frozen=True, kw_only=True):
    """Where analytics listens, what else it counts, and how long a window waits for late payloads."""

    prefix = "CLOUDMATCH_ANALYTICS"

    host: Annotated[str, Meta(min_length=1, description="Address on which analytics listens.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port on which analytics listens; 0: a free one.")] = 8085
    legacy_port: Annotated[
        Port, Meta(description="Second port, for clients of 2019 (85 there); 0: none.")
    ] = 0
    lag_ms: Annotated[
        int, Meta(ge=0, le=60_000, description="How long after its end a window still accepts payloads (ms).")
    ] = 1000
    replication: Annotated[int, Meta(ge=1, le=9, description="Replicas of the topics on a real Kafka.")] = 1
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Partitions of the topics on a real Kafka: as many instances share the work at most.",
        ),
    ] = 4
    input_queues: Annotated[
        str,
        Meta(description="More queues whose sizes are counted, comma-separated: those of producers of 2019."),
    ] = ""

    listeners: Annotated[
        PositiveInt,
        Meta(description="Live streams (`/windows/live`) at once; more are answered with 503."),
    ] = LISTENERS

    @property
    def plain_queues(self) -> list[str]:
        """The input queues as a list."""
        return amqp.plain_queues(self.input_queues)

    def check(self) -> None:
        """Verify the names of the input queues.

        Raises:
            SettingsError: one cannot be used.
        """
        try:
            amqp.plain_queues(self.input_queues)
        except ValueError as error:
            raise SettingsError(f"{variable(AnalyticsSettings, 'input_queues')}: {error}") from None


class KafkaSettings(Settings, frozen=True, kw_only=True):
    """Where the Kafka-protocol broker is."""

    prefix = "CLOUDMATCH_KAFKA"

    port: Annotated[Port, Meta(description="Port of the local Kafka-protocol broker.")] = 9092
    brokers: Annotated[
        str, Meta(description="Kafka brokers (host:port, comma-separated) instead of the local one.")
    ] = ""
    security: Annotated[
        typing.Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        Meta(description="Protocol of connections to Kafka."),
    ] = "plaintext"
    sasl_mechanism: Annotated[
        typing.Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Meta(description="SASL mechanism, with `sasl_…`."),
    ] = "SCRAM-SHA-512"
    sasl_user: Annotated[str, Meta(description="SASL user, with `sasl_…`.")] = ""
    sasl_password: Annotated[str, Meta(description="Password of the SASL user.")] = ""
    ca_file: Annotated[
        str, Meta(description="Trusted certificates (PEM), with `…ssl`. Default: the system's.")
    ] = ""

    @property
    def bootstrap(self) -> str:
        """host:port of one or more brokers, comma-separated."""
        return self.brokers or f"127.0.0.1:{self.port}"

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded one, which has no admin API."""
        return not self.brokers
