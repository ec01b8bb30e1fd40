"""Hold the journal against itself and against the stream that it was made from.

Two passes. `Order` looks at positions alone, segment by segment: each must be larger than all before it.
`compare` then holds one segment against the messages of the stream that belong there. A position that is
only out of order is not missing as well.
"""

from bisect import bisect_right
from collections.abc import Container, Iterable
from enum import StrEnum
from typing import NamedTuple

from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document


class Fault(StrEnum):
    """What can be wrong with an event."""

    MISSING = "missing"  # the stream has it, the journal has not
    TWICE = "twice"
    DISORDER = "out of order"
    DIFFERENT = "different"  # than in the stream
    UNKNOWN = "not in the stream"
    DAMAGED = "damaged"  # the segment is not what its seal says


class Finding(NamedTuple):
    """One fault: at which position, in which segment's file."""

    fault: Fault
    position: int
    segment: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.fault:<17}  position {self.position}  {self.segment}"


class Positions:
    """A set of ascending positions, as the runs in which they follow one another."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    @property
    def last(self) -> int:
        """The largest; 0 when there is none."""
        return self._lasts[-1] if self._lasts else 0

    def __contains__(self, position: object) -> bool:
        if not isinstance(position, int):
            return False
        run = bisect_right(self._firsts, position) - 1
        return run >= 0 and position <= self._lasts[run]

    def add(self, position: int) -> None:
        """Add a position larger than all before."""
        if self._lasts and position == self._lasts[-1] + 1:
            self._lasts[-1] = position
        else:
            self._firsts.append(position)
            self._lasts.append(position)


class Order:
    """The positions of the journal, in the order of its files."""

    def __init__(self) -> None:
        self.count = 0
        self._strays: set[int] = set()  # positions out of order
        self._ascending = Positions()

    @property
    def last(self) -> int:
        """The largest position; 0 when there is none."""
        return self._ascending.last

    def __contains__(self, position: object) -> bool:
        return position in self._ascending or position in self._strays

    def take(self, segment: str, positions: Iterable[int]) -> list[Finding]:
        """Take the next segment's positions; give what is wrong with them."""
        found = []
        for position in positions:
            self.count += 1
            if position > self._ascending.last:
                self._ascending.add(position)
            elif position in self:
                found.append(Finding(Fault.TWICE, position, segment))
            else:
                self._strays.add(position)
                found.append(Finding(Fault.DISORDER, position, segment))
        return found


def compare(
    segment: str,
    documents: Iterable[Document],
    messages: Iterable[tuple[int, AnyFact | None]],
    journal: Container[int],
) -> list[Finding]:
    """Hold a segment's documents against the stream's messages, of the same span of positions.

    Args:
        messages: position and fact, in order; None for what is no fact and not to be kept.
        journal: all positions that it has, wherever they stand.
    """
    kept: dict[int, Document] = {}
    for document in documents:
        kept.setdefault(document["position"], document)
    found = []
    for position, fact in messages:
        if fact is None:
            continue
        there = kept.pop(position, None)
        if there is None:
            if position not in journal:
                found.append(Finding(Fault.MISSING, position, segment))
        elif there != segments.document(position, fact):
            found.append(Finding(Fault.DIFFERENT, position, segment))
    return [*found, *(Finding(Fault.UNKNOWN, position, segment) for position in kept)]
