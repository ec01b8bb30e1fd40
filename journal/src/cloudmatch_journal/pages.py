"""Pages of the journal: each a search of a bounded part of it, in any thread, while the journal grows."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document
from cloudmatch_journal.core.shown import MAX_SIZES, ShownFact, shown
from cloudmatch_journal.segment_database import Query

MAX_SCANNED = 8  # segments searched for one page
MAX_BYTES = 16 * 2**20  # of them, if there is more than one
MAX_TIME = 0.25  # s of CPU, after which no other segment is searched


class Page(NamedTuple):
    """A part of the journal."""

    entries: list[tuple[int, ShownFact]]
    next: int  # `after` of the next page
    more: bool  # whether there are events after `next`


class Part(NamedTuple):
    """A segment to search."""

    search: Callable[[Query], list[Document]]  # its documents that a query selects, oldest first
    size: int  # bytes
    begins: int  # no event between this position and the segment's first is searched for


class Search(NamedTuple):
    """What to search, as it was when the search was asked for: any thread may do it."""

    parts: Sequence[Part]
    selected: Query
    device: str | None  # None: any
    end: int  # position up to which the parts contain everything

    def page(self, limit: int) -> Page:
        """Return events, oldest first, until there are `limit`, or `MAX_SIZES` sizes.

        A page contains all events of its last position, and may exceed either by them. It may be short
        although there are more events, since one call searches a bounded part of the journal.

        Raises:
            StoreError: a segment is damaged.
        """
        entries: list[tuple[int, ShownFact]] = []
        sizes = read = 0
        began = time.thread_time()
        for scanned, part in enumerate(self.parts):
            read += part.size
            if scanned and (
                scanned == MAX_SCANNED or read > MAX_BYTES or time.thread_time() - began > MAX_TIME
            ):
                return Page(entries, part.begins, True)
            for document in part.search(self.selected):
                position = document["position"]
                for fact in shown(segments.to_fact(document), self.device):
                    entries.append((position, fact))
                    sizes += len(getattr(fact, "sizes", ()))
                if len(entries) >= limit or sizes >= MAX_SIZES:
                    return Page(entries, position, position < self.end)
        last = entries[-1][0] if entries else 0  # it may have come since the search was asked for
        return Page(entries, max(self.end, last), False)
