"""Read a process' settings from the environment, once, into frozen structs.

A group of settings is a struct with a `prefix`: field ``port`` of a group with the prefix
``CLOUDMATCH_EDGE`` is the variable ``CLOUDMATCH_EDGE_PORT``. A wrong value ends the process before it
starts, with a sentence that names the variable. A variable with a known prefix and an unknown rest is
warned about.
"""

import logging
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta

log = logging.getLogger("settings")

Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveInt = Annotated[int, Meta(gt=0)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the variable."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A group of settings that share a prefix."""

    prefix: ClassVar[str]


class NatsSettings(Settings, frozen=True, kw_only=True):
    """Where the bus is."""

    prefix = "CLOUDMATCH_NATS"

    port: Annotated[Port, Meta(description="Port of the local NATS server.")] = 4222
    url: Annotated[
        str,
        Meta(
            pattern=r"^(nats|tls|ws|wss)://.+",
            description="NATS servers, comma-separated. Default: the local one.",
        ),
    ] = ""

    replicas: Annotated[
        typing.Literal[1, 3, 5], Meta(description="Copies that JetStream keeps: 3 in production.")
    ] = 1

    @property
    def servers(self) -> list[str]:
        """URLs of the servers, at least one."""
        return self.url.split(",") if self.url else [f"nats://127.0.0.1:{self.port}"]


class AmqpSettings(Settings, frozen=True, kw_only=True):
    """Where RabbitMQ is."""

    prefix = "CLOUDMATCH_AMQP"

    port: Annotated[Port, Meta(description="Port of the local RabbitMQ node.")] = 5672
    url: Annotated[
        str,
        Meta(pattern=r"^amqps?://.+", description="A RabbitMQ to use in place of the local node."),
    ] = ""

    queue_type: Annotated[
        typing.Literal["classic", "quorum"], Meta(description="Kind of the queues: quorum in production.")
    ] = "classic"

    @property
    def address(self) -> str:
        """URL of the broker."""
        return self.url or f"amqp://guest:guest@127.0.0.1:{self.port}/"


class KafkaSettings(Settings, frozen=True, kw_only=True):
    """Where the Kafka-protocol broker is."""

    prefix = "CLOUDMATCH_KAFKA"

    port: Annotated[Port, Meta(description="Port of the local Kafka-protocol broker.")] = 9092
    brokers: Annotated[
        str, Meta(description="Kafka brokers (host:port, comma-separated) in place of the local one.")
    ] = ""
    security: Annotated[
        typing.Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        Meta(description="How Kafka is spoken to."),
    ] = "plaintext"
    sasl_mechanism: Annotated[
        typing.Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Meta(description="How the user proves to be who it is, with `sasl_…`."),
    ] = "SCRAM-SHA-512"
    sasl_user: Annotated[str, Meta(description="User, with `sasl_…`.")] = ""
    sasl_password: Annotated[str, Meta(description="The user's password.")] = ""
    ca_file: Annotated[
        str, Meta(description="Certificates (PEM) to trust, with `…ssl`. Default: the system's.")
    ] = ""

    @property
    def bootstrap(self) -> str:
        """host:port of one or more brokers, comma-separated."""
        return self.brokers or f"127.0.0.1:{self.port}"

    @property
    def embedded(self) -> bool:
        """Whether the broker is the local stand-in, which has no admin API."""
        return not self.brokers


class CommonSettings(Settings, frozen=True, kw_only=True):
    """What every process has."""

    prefix = "CLOUDMATCH"

    run_dir: Annotated[str, Meta(min_length=1, description="Folder for everything kept at run time.")] = (
        ".run"
    )
    log_level: Annotated[
        typing.Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="How much is logged.")
    ] = "INFO"


S = TypeVar("S", bound=Settings)


def variable(group: type[Settings], field: str) -> str:
    """Name of the environment variable behind a field."""
    return f"{group.prefix}_{field.upper()}"


def describe(group: type[Settings]) -> list[tuple[str, object, str]]:
    """Give (variable, default, description) for each setting of a group."""
    hints = typing.get_type_hints(group, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(group):
        metas = [m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, Meta)]
        text = next((m.description for m in reversed(metas) if m.description), "")
        rows.append((variable(group, field.name), field.default, text))
    return rows


def read(group: type[S], environ: Mapping[str, str]) -> S:
    """Read one group of settings.

    Raises:
        SettingsError: a value cannot be used. An empty value counts as absent.
    """
    values = {
        field.name: environ[name]
        for field in msgspec.structs.fields(group)
        if environ.get(name := variable(group, field.name))
    }
    try:
        return msgspec.convert(values, group, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = variable(group, path.rstrip("`"))
        raise SettingsError(f"{name}={environ.get(name)!r} cannot be used: {reason}") from None


def unknown(groups: Iterable[type[Settings]], environ: Mapping[str, str]) -> list[str]:
    """Name the variables that begin with a group's prefix and are no setting of any group here."""
    groups = list(groups)
    known = {name for group in groups for name, _, _ in describe(group)}
    prefixes = tuple(f"{group.prefix}_" for group in groups if group is not CommonSettings)
    return sorted(name for name in environ if name.startswith(prefixes) and name not in known)
