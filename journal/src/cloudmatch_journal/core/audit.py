"""Check the journal for consistency, and compare it with the stream that it was made from.

Two passes: `Order` checks positions alone, segment by segment, since each must be larger than all before it.
`compare` then compares one segment with the stream's messages of the same span. A position that is only out
of order is not reported as missing as well.
"""

from bisect import bisect_right
from collections.abc import Container, Iterable
from enum import StrEnum
from typing import NamedTuple

from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.erasure import is_erased
from cloudmatch_journal.core.segments import Document


class Fault(StrEnum):
    """What can be wrong with an event."""

    MISSING = "missing"  # in the stream, but not in the journal
    DUPLICATE = "duplicate"
    DISORDER = "out of order"
    DIFFERENT = "different"  # from the message in the stream
    UNKNOWN = "not in the stream"
    DAMAGED = "damaged"  # a part of a segment behind this position, or its seal, or a snapshot


class Finding(NamedTuple):
    """One fault: at which position, in which segment's file."""

    fault: Fault
    position: int
    segment: str

    def __str__(self) -> str:
        """Format as one line."""
        return f"{self.fault:<17}  position {self.position}  {self.segment}"


class Positions:
    """A set of ascending positions, stored as runs of consecutive ones."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    @property
    def last(self) -> int:
        """The largest; 0 if there is none."""
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
        self._out_of_order: set[int] = set()
        self._ascending = Positions()

    @property
    def last(self) -> int:
        """The largest position; 0 if there is none."""
        return self._ascending.last

    def __contains__(self, position: object) -> bool:
        return position in self._ascending or position in self._out_of_order

    def check(self, segment: str, positions: Iterable[int]) -> list[Finding]:
        """Add the positions of the next segment; return their faults."""
        found = []
        for position in positions:
            self.count += 1
            if position > self._ascending.last:
                self._ascending.add(position)
            elif position in self:
                found.append(Finding(Fault.DUPLICATE, position, segment))
            else:
                self._out_of_order.add(position)
                found.append(Finding(Fault.DISORDER, position, segment))
        return found


def compare(
    segment: str,
    documents: Iterable[Document],
    messages: Iterable[tuple[int, AnyFact | None]],
    journal: Container[int],
) -> list[Finding]:
    """Compare a segment's documents with the stream's messages of the same span of positions.

    Args:
        messages: position and fact, in order; None for a message that is not a fact and not in the journal.
        journal: all positions in the journal, in whatever segment.
    """
    stored: dict[int, Document] = {}
    for document in documents:
        stored.setdefault(document["position"], document)
    found = []
    for position, fact in messages:
        if fact is None:
            continue
        document_there = stored.pop(position, None)
        if document_there is None:
            if position not in journal:
                found.append(Finding(Fault.MISSING, position, segment))
        elif document_there != segments.to_document(
            position, fact, document_there.get("offset", 0)
        ) and not is_erased(segments.to_fact(document_there), fact):
            found.append(Finding(Fault.DIFFERENT, position, segment))
    return [*found, *(Finding(Fault.UNKNOWN, position, segment) for position in stored)]
