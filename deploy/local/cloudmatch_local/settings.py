"""All settings of all processes that `up` starts, read and checked before any of them starts."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

from msgspec import Meta

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import (
    AmqpSettings,
    CommonSettings,
    HttpSettings,
    Port,
    Settings,
    describe,
)

S = TypeVar("S", bound=Settings)
SERVICES = ("match-engine", "edge", "journal", "bridge-rabbit", "analytics")


# what `up` sets with LEGACY_PORTS=1, where it is not set: the ports of 2019
LEGACY_PORTS = {
    "CLOUDMATCH_EDGE_LEGACY_PORT": "80",
    "CLOUDMATCH_JOURNAL_LEGACY_PORT": "81",
    "CLOUDMATCH_ANALYTICS_LEGACY_PORT": "85",
}


class LocalSettings(Settings, frozen=True, kw_only=True):
    """Settings of local development only."""

    prefix = "CLOUDMATCH_LOCAL"

    nats_monitoring_port: Annotated[
        Port, Meta(description="Port of the local NATS server's monitoring pages.")
    ] = 8222
    user: Annotated[
        str,
        Meta(
            description="User as whom everything runs when root starts `make up`. Default: whoever starts it."
        ),
    ] = ""
    keys: Annotated[
        bool,
        Meta(
            description="Give each process an identity on the local servers of NATS and RabbitMQ, which then "
            "refuse everyone else: keys are in `keys` of the run folder."
        ),
    ] = True


def groups() -> dict[str, list[type[Settings]]]:
    """Return every group of settings by service; under "" those that several processes share."""
    found: dict[str, list[type[Settings]]] = {
        "": [CommonSettings, NatsSettings, AmqpSettings, HttpSettings, LocalSettings]
    }
    for service in SERVICES:
        module = importlib.import_module(f"cloudmatch_{service.replace('-', '_')}.settings")
        found[service] = [
            each
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, Settings) and each.__module__ == module.__name__
        ]
    return found


def prefix(service: str) -> str:
    """Return the prefix of a service's own settings."""
    return f"CLOUDMATCH_{service.upper().replace('-', '_')}"


class AllSettings:
    """The settings of all processes, read and checked.

    Raises:
        SettingsError: a value cannot be used; the message names the variable.
    """

    def __init__(self, known: Mapping[str, Iterable[type[Settings]]], environ: Mapping[str, str]) -> None:
        self._groups = [group for of_service in known.values() for group in of_service]
        self._environment = Environment(*self._groups, environ=environ)
        self._names = [name for group in self._groups for name, _, _ in describe(group)]
        self._unknown = sorted(
            name for name in environ if name.startswith("CLOUDMATCH_") and name not in self._names
        )

    def __getitem__(self, group: type[S]) -> S:
        return self._environment[group]

    def own(self, service: str) -> Settings:
        """Return the settings that have the service's prefix."""
        (group,) = (each for each in self._groups if each.prefix == prefix(service))
        return self._environment[group]

    def warnings(self) -> list[str]:
        """Return one sentence for each unknown CLOUDMATCH variable."""
        sentences = []
        for name in self._unknown:
            near = difflib.get_close_matches(name, self._names, 1, 0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            sentences.append(f"unknown setting: {name}{hint}")
        return sentences
