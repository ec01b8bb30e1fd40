"""Read a process' settings from the environment, once, into frozen structs.

A group of settings is a struct with a `prefix`: field ``port`` of a group with the prefix
``CLOUDMATCH_EDGE`` is the variable ``CLOUDMATCH_EDGE_PORT``. A wrong value ends the process before it
starts, with a sentence that names the variable. A variable with a known prefix and an unknown rest is
warned about.
"""

import logging
import ssl
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import msgspec
import nkeys  # type: ignore[import-untyped]  # it has no types
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

    def check(self) -> None:
        """Try what the values name, such as files: once, at the start of a process.

        Raises:
            SettingsError: it cannot be used.
        """


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
    provision: Annotated[
        bool,
        Meta(
            description="Whether this process makes streams and consumers, or waits until another has: "
            "of the users that `nats/permissions.conf` knows, match-engine alone may."
        ),
    ] = True
    lane: Annotated[
        bool,
        Meta(
            description="Whether messages take the fast lane past the client's parser (`nats://` and `tls://`)."
        ),
    ] = True
    nkey_file: Annotated[
        str, Meta(description="File with the seed of the user's nkey. Default: servers that ask for none.")
    ] = ""
    ca_file: Annotated[
        str, Meta(description="Certificates (PEM) to trust, with `tls://`. Default: the system's.")
    ] = ""

    @property
    def servers(self) -> list[str]:
        """URLs of the servers, at least one."""
        return self.url.split(",") if self.url else [f"nats://127.0.0.1:{self.port}"]

    def seed(self) -> str | None:
        """Read the seed of the user's nkey; None without one.

        Raises:
            SettingsError: there is none in the file.
        """
        if not self.nkey_file:
            return None
        try:
            seed = Path(self.nkey_file).read_text(encoding="ascii").strip()
            nkeys.from_seed(bytearray(seed.encode()))
        except (OSError, ValueError, nkeys.NkeysError) as error:
            # Not the value: a seed that was given in place of the file's name would be shown.
            raise SettingsError(f"{variable(type(self), 'nkey_file')} names no nkey: {_why(error)}") from None
        return seed

    def tls(self) -> ssl.SSLContext | None:
        """Give the certificates to trust; None for the system's.

        Raises:
            SettingsError: there are none in the file.
        """
        if not self.ca_file:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            name = variable(type(self), "ca_file")
            raise SettingsError(f"{name}={self.ca_file!r} names no certificates: {_why(error)}") from None

    def check(self) -> None:
        """Try the files.

        Raises:
            SettingsError: one cannot be used.
        """
        self.seed()
        self.tls()


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


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


class HttpSettings(Settings, frozen=True, kw_only=True):
    """Which pages of other origins may read what a service answers to GET."""

    prefix = "CLOUDMATCH_HTTP"

    origins: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^/,\s]+(,|$))*$",
            description="Origins of pages that may read services other than edges, comma-separated.",
        ),
    ] = ""

    @property
    def allowed(self) -> list[str]:
        """The origins, one by one."""
        return [origin for origin in self.origins.split(",") if origin]


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
