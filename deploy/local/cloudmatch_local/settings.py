"""All settings of all processes that `up` starts, read and checked before any of them starts."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple, TypeVar

from msgspec import Meta

from cloudmatch_analytics.settings import KafkaSettings
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


class LocalSettings(Settings, frozen=True, kw_only=True):
    """What only local development has."""

    prefix = "CLOUDMATCH_LOCAL"

    nats_monitoring_port: Annotated[
        Port, Meta(description="Port of the local NATS server's monitoring pages.")
    ] = 8222


class Place(NamedTuple):
    """Where the first process of a service listens."""

    host: str
    port: int
    tls: bool = False


def groups() -> dict[str, list[type[Settings]]]:
    """Give every group of settings, by whose it is: a service's, or (under "") of more than one."""
    found: dict[str, list[type[Settings]]] = {
        "": [CommonSettings, NatsSettings, AmqpSettings, KafkaSettings, HttpSettings, LocalSettings]
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
    """Give what the names of a service's settings begin with."""
    return f"CLOUDMATCH_{service.upper().replace('-', '_')}"


class Everything:
    """All settings of all processes.

    Raises:
        SettingsError: a value cannot be used; the message names the variable.
    """

    def __init__(self, known: Mapping[str, Iterable[type[Settings]]], environ: Mapping[str, str]) -> None:
        groups = [group for its in known.values() for group in its]
        self._environment = Environment(*groups, environ=environ)
        self._names = [name for group in groups for name, _, _ in describe(group)]
        self._strangers = sorted(
            name for name in environ if name.startswith("CLOUDMATCH_") and name not in self._names
        )
        self.places: dict[str, Place] = {}
        for service in SERVICES:
            (group,) = (each for each in known[service] if each.prefix == prefix(service))
            values = self._environment[group]
            tls = bool(getattr(values, "tls_cert_file", ""))
            self.places[service] = Place(getattr(values, "host", "127.0.0.1"), values.port, tls)  # type: ignore[attr-defined]

    def __getitem__(self, group: type[S]) -> S:
        return self._environment[group]

    def warnings(self) -> list[str]:
        """Give one sentence for each CLOUDMATCH variable that is nobody's setting."""
        sentences = []
        for name in self._strangers:
            near = difflib.get_close_matches(name, self._names, 1, 0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            sentences.append(f"{name} is set but is nobody's setting{hint}")
        return sentences
