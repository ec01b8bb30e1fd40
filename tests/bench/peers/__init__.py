"""What CloudMatch is measured against: a module for each installs, starts and ends it."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol


class PeerMissingError(Exception):
    """A peer cannot be installed or started here; the message gives the reason."""


class Broker(Protocol):
    """The process through which all payloads go."""

    @property
    def pid(self) -> int: ...

    def restart(self) -> None:
        """Start it again, on its port, once it has ended."""


class Running(NamedTuple):
    """A peer that runs."""

    ports: tuple[int, ...]  # of its sockets: the first end's, the other end's
    pids: Mapping[str, int]  # of all processes that a payload costs something
    broker: Broker


@dataclass(frozen=True)
class Peer:
    """How to get and run one."""

    name: str
    title: str
    dialect: str  # of the generator
    parts: str  # the processes, in words
    promise: str  # the delivery guarantee that it documents
    install: Callable[[Path], None]
    run: Callable[[Path], contextlib.AbstractContextManager[Running]]
    versions: Callable[[Path], dict[str, str]]
    missing: Callable[[Path], str]  # what is not installed yet; empty: nothing
    # How it is run where its broker may die, and which of its brokers then does; None: it has only the one.
    redundant: Callable[[Path], contextlib.AbstractContextManager[Running]] | None = None
    redundancy: str = ""
