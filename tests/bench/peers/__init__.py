"""The systems with which CloudMatch is compared. One module each installs, runs and stops it."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol


class PeerMissingError(Exception):
    """A peer cannot be installed or started; the message gives the reason."""


class Broker(Protocol):
    """The process through which all payloads pass."""

    @property
    def pid(self) -> int: ...

    def restart(self) -> None:
        """Wait until it has ended, then start it on the same port."""


class Running(NamedTuple):
    """A running peer."""

    ports: tuple[int, ...]  # of its WebSocket listeners: one for each end of a pair
    pids: Mapping[str, int]  # of all processes involved in relaying a payload
    broker: Broker


@dataclass(frozen=True)
class Peer:
    """How to install and run a peer."""

    name: str
    title: str
    dialect: str  # of the generator
    parts: str  # its processes, in words
    promise: str  # the delivery guarantee that it documents
    install: Callable[[Path], None]
    run: Callable[[Path], contextlib.AbstractContextManager[Running]]
    versions: Callable[[Path], dict[str, str]]
    missing: Callable[[Path], str]  # names what is not installed yet; empty: nothing
    # How to run it where a broker is killed, and which one that is; None: it has only one broker.
    redundant: Callable[[Path], contextlib.AbstractContextManager[Running]] | None = None
    redundancy: str = ""
