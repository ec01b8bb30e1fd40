"""The ids of what a partition has counted, so that a redelivery is not counted again.

How long after the first time the second one comes depends on no clock: what matters is how many others come
in between. So ids are forgotten by their number, the oldest first, whatever the clocks say and however long
RabbitMQ, a bridge or an edge was cut off.

Ids are kept in *lists*, by the second that is said in them, which is the same in a redelivery. Lists that
were extended in succession form a *generation*; the oldest generations are forgotten as a whole.
"""

from collections.abc import Iterable
from typing import Any, Protocol
from zlib import crc32

from cloudmatch_analytics.core.kafka_records import Sent

MAX_IDS = 2_000  # of a generation
MAX_LISTS = 100  # of a generation
GENERATIONS = 500  # so the last 1,000,000 ids of a partition are known, or those of 50,000 different seconds

MAX_DIGITS = 40  # of a time
GENERATION = "generation"  # key of the current one: its number, its ids


class State(Protocol):
    """What is kept for a partition."""

    def get(self, key: str, /) -> Any:
        """Return a value, None if there is none."""

    def set(self, key: str, value: Any, /) -> None:
        """Set a value that JSON can express."""

    def delete(self, key: str, /) -> None:
        """Delete a value."""


def list_of(identity: str) -> str:
    """Name the list that an id belongs to."""
    said = identity.rpartition("/")[2].partition("#")[0]
    if said.isdecimal() and said.isascii() and len(said) <= MAX_DIGITS:
        return str(int(said) // 1000)
    return f"#{crc32(identity.encode()) % 4096}"


def new(counted: Iterable[tuple[str | None, Sent]], state: State) -> tuple[list[Sent], int]:
    """Return the sums whose ids were not known, and know them from now on; and the payloads of the others."""
    known = _Known(state)
    found: list[Sent] = []
    repeated = 0
    for identity, sums in counted:
        if identity is None or known.add(identity):
            found.append(sums)
        else:
            repeated += payloads(sums)
    known.save()
    return found, repeated


def payloads(sums: Sent) -> int:
    """Return how many payloads were sent."""
    return sum([count for _, count in sums.values()])


class _Known:
    """The ids that are known to one record."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lists: dict[str, list[str]] = {}
        self._sets: dict[str, set[str]] = {}
        self._added: dict[str, int] = {}

    def add(self, identity: str) -> bool:
        """Add an id; return whether it is new."""
        name = list_of(identity)
        if name not in self._sets:
            # lists of former versions have bare names, and no generation
            stored = self._state.get(f"ids {name}") or self._state.get(name)
            self._lists[name] = _texts(stored.get("ids") if isinstance(stored, dict) else stored)
            self._sets[name] = set(self._lists[name])
        if identity in self._sets[name]:
            return False
        self._sets[name].add(identity)
        self._lists[name].append(identity)
        self._added[name] = self._added.get(name, 0) + 1
        return True

    def save(self) -> None:
        """Keep the lists that were extended, in the current generation."""
        if not self._added:
            return
        number, held = _generation(self._state.get(GENERATION))
        names = _texts(self._state.get(f"lists {number}"))
        if held >= MAX_IDS or len(names) >= MAX_LISTS:
            number, held, names = number + 1, 0, []
            self._forget(number - GENERATIONS)
        fresh = [name for name in self._added if name not in names]
        for name in self._added:
            self._state.set(f"ids {name}", {"generation": number, "ids": self._lists[name]})
        if fresh:
            self._state.set(f"lists {number}", names + fresh)
        self._state.set(GENERATION, [number, held + sum(self._added.values())])

    def _forget(self, number: int) -> None:
        """Forget the lists of a generation that were not extended since."""
        for name in _texts(self._state.get(f"lists {number}")):
            stored = self._state.get(f"ids {name}")
            if name not in self._added and isinstance(stored, dict) and stored.get("generation") == number:
                self._state.delete(f"ids {name}")
        self._state.delete(f"lists {number}")


def _texts(stored: object) -> list[str]:
    """Return a list as it is kept; an empty one for what was not written like that."""
    return stored if isinstance(stored, list) and {*map(type, stored)} <= {str} else []


def _generation(stored: object) -> tuple[int, int]:
    """Return the number of the current generation, and how many ids it has; the same of what is damaged."""
    match stored:
        case [int(number), int(held)]:
            return number, held
    return 0, 0
