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

    def check(self) -> None:
        """Try what the values name, such as files: once, at the start of a process.

        Raises:
            SettingsError: it cannot be used.
        """


def reason(error: Exception) -> str:
    """Say why a file could not be used."""
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
    def allowed_origins(self) -> list[str]:
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
