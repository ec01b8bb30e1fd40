"""Read the settings of a process from the environment, once, into frozen structs.

A group of settings is a struct with a `prefix`: field ``port`` of a group with the prefix
``CLOUDMATCH_EDGE`` is the variable ``CLOUDMATCH_EDGE_PORT``. An invalid value ends the process at start with
a sentence that names the variable. An unknown variable with a known prefix is warned about.
"""

import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from cloudmatch_bus.process import origins

Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveInt = Annotated[int, Meta(gt=0)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class SettingsError(ValueError):
    """The value of a setting cannot be used; the message names the variable."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A group of settings that share a prefix."""

    prefix: ClassVar[str]

    def check(self) -> None:
        """Verify what the values refer to, such as files. Called once, when the process starts.

        Raises:
            SettingsError: a value cannot be used.
        """


def error_text(error: Exception) -> str:
    """Return why a file could not be used."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class AmqpSettings(Settings, frozen=True, kw_only=True):
    """Where RabbitMQ is and which queues it gets."""

    prefix = "CLOUDMATCH_AMQP"

    port: Annotated[Port, Meta(description="Port of the local RabbitMQ node.")] = 5672
    url: Annotated[
        str,
        Meta(pattern=r"^amqps?://.+", description="URL of RabbitMQ. Default: the local node."),
    ] = ""

    queue_type: Annotated[
        typing.Literal["classic", "quorum"], Meta(description="Type of the queues: quorum in production.")
    ] = "classic"

    @property
    def address(self) -> str:
        """URL of the broker."""
        return self.url or f"amqp://guest:guest@127.0.0.1:{self.port}/"


class HttpSettings(Settings, frozen=True, kw_only=True):
    """The HTTP APIs of all services but edges."""

    prefix = "CLOUDMATCH_HTTP"

    origins: Annotated[
        str,
        Meta(
            description="Origins of pages that may read HTTP APIs other than the edges', comma-separated. "
            "`*`: any. Default: none."
        ),
    ] = ""

    auth: Annotated[
        typing.Literal["", "none", "keys"],
        Meta(
            description="Who may use the HTTP API of the journal, match-engine and analytics: `keys`, who "
            "has one; `none`, everybody. Default: `none` on loopback; on another address the service does "
            "not start until this is set."
        ),
    ] = ""

    keys_file: Annotated[
        str,
        Meta(
            description="File with a line `name sha256 scope,scope [app]` for each key; "
            "`cloudmatch-http-keys` makes them. It is read again when it changes."
        ),
    ] = ""

    connections: Annotated[
        PositiveInt,
        Meta(
            description="Connections to the HTTP API of a service, other than an edge, that are served at "
            "once. On more of them all but probes and metrics is answered with 503; beyond twice as many "
            "are closed."
        ),
    ] = 2000

    @property
    def allowed_origins(self) -> list[str]:
        """The origins as a list."""
        return origins.listed(self.origins)

    def check(self) -> None:
        """Check the origins.

        Raises:
            SettingsError: one is none.
        """
        check_origins(type(self), self.origins)


def check_origins(group: type[Settings], text: str) -> None:
    """Check the field `origins` of a group.

    Raises:
        SettingsError: an entry is no origin.
    """
    try:
        origins.listed(text)
    except ValueError as error:
        raise SettingsError(f"{variable(group, 'origins')}={text!r} cannot be used: {error}") from None


class CommonSettings(Settings, frozen=True, kw_only=True):
    """Settings of every process."""

    prefix = "CLOUDMATCH"

    run_dir: Annotated[str, Meta(min_length=1, description="Folder for everything written at run time.")] = (
        ".run"
    )
    log_level: Annotated[
        typing.Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="Least severe level that is logged."),
    ] = "INFO"


S = TypeVar("S", bound=Settings)


def variable(group: type[Settings], field: str) -> str:
    """Return the name of a field's environment variable."""
    return f"{group.prefix}_{field.upper()}"


def describe(group: type[Settings]) -> list[tuple[str, object, str]]:
    """Return (variable, default, description) of each setting of a group."""
    hints = typing.get_type_hints(group, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(group):
        metas = [m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, Meta)]
        text = next((m.description for m in reversed(metas) if m.description), "")
        rows.append((variable(group, field.name), field.default, text))
    return rows


def read(group: type[S], environ: Mapping[str, str]) -> S:
    """Read one group of settings; an empty value counts as absent.

    Raises:
        SettingsError: a value cannot be used.
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
    """Return the variables that have a group's prefix and are no setting of any of the groups."""
    groups = list(groups)
    known = {name for group in groups for name, _, _ in describe(group)}
    prefixes = tuple(f"{group.prefix}_" for group in groups if group is not CommonSettings)
    return sorted(name for name in environ if name.startswith(prefixes) and name not in known)
