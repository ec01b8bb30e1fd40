"""The sizes of delivered payloads that wait to be published, by app, by slice of time, and by direction.

What is added while facts cannot be stored is merged: a direction that goes on delivering takes no more room,
however long that lasts. Numbers and sums stay exact, and nothing is refused. Of the sizes in between, the
latest are kept one by one, and runs of equal ones as they are; others are evened out beyond a limit.

No clock here: `at` arrives with the sizes, in ms since 1970.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from cloudmatch_bus.contract.deliveries import Span, encode_sizes, span
from cloudmatch_bus.contract.messages import DeliveriesCounted

SLICE = 10_000  # ms
RUN_SIZES = 4096  # of a direction in a slice that are kept one by one, at most
RUN_GROUPS = 64  # groups of equal sizes before them, at most
KEPT_SIZES = 1_000_000  # kept one by one in all, at most
SPANS = 20_000  # in all, beyond which slices are merged
FACT_SPANS = 512  # of a fact, about
FACT_BYTES = 200_000  # of a fact, about
SPAN_BYTES = 64  # of a span, without its sizes and ids


class Direction(NamedTuple):
    """One direction of a match."""

    app: str
    match: int
    sender: str
    receiver: str


class _Run:
    """Payloads of a direction without a hole, from number `first`."""

    __slots__ = ("_groups", "_payloads", "first", "sizes")

    def __init__(self, first: int, sizes: list[int]) -> None:
        self.first = first
        self.sizes = sizes  # of the last ones
        self._payloads = 0  # before them
        self._groups: list[tuple[int, int]] = []  # (size, how many) of these

    @property
    def end(self) -> int:
        """Number after that of the last payload."""
        return self.first + self._payloads + len(self.sizes)

    def append(self, sizes: list[int]) -> None:
        """Add the sizes of the payloads that follow."""
        self.sizes += sizes
        if len(self.sizes) > RUN_SIZES:
            self.fold()

    def fold(self) -> None:
        """Keep no size one by one."""
        sizes, self.sizes = self.sizes, []
        if sizes.count(sizes[0]) == len(sizes):
            self._add_groups([(sizes[0], len(sizes))])
        else:
            self._add_groups(_evened(len(sizes), sum(sizes)))

    def join(self, later: "_Run") -> None:
        """Add a run that follows this one."""
        if later._groups:
            if self.sizes:
                self.fold()
            self._add_groups(later._groups)
        self.append(later.sizes)

    def _add_groups(self, added: list[tuple[int, int]]) -> None:
        self._payloads += sum(count for _, count in added)
        groups = self._groups
        if groups and groups[-1][0] == added[0][0]:
            groups[-1] = added[0][0], groups[-1][1] + added[0][1]
            added = added[1:]
        groups += added
        if len(groups) > RUN_GROUPS:
            self._groups = _evened(self._payloads, sum(size * count for size, count in groups))

    def span(self, direction: Direction) -> Span:
        """Return it as facts carry it."""
        _, match, sender, receiver = direction
        if not self._groups:
            return span(sender, receiver, match, self.first, self.sizes)
        text = ",".join(f"{size}*{count}" for size, count in self._groups)
        if self.sizes:
            text = f"{text},{encode_sizes(self.sizes)}"
        total = sum(size * count for size, count in self._groups) + sum(self.sizes)
        return Span(sender, receiver, match, self.first, self.end - self.first, total, text)


def _evened(payloads: int, total: int) -> list[tuple[int, int]]:
    """Return groups of sizes as equal as possible."""
    size, larger = divmod(total, payloads)
    groups = [(size, payloads - larger), (size + 1, larger)]
    return groups if larger else groups[:1]


class _Slice:
    """What one app has delivered in a slice of time; `at` is when it last did."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.directions: dict[Direction, list[_Run]] = {}

    def add(self, direction: Direction, run: _Run) -> int:
        """Add a run; return how many more runs there are now."""
        runs = self.directions.get(direction)
        if runs is None:
            self.directions[direction] = [run]
        elif runs[-1].end == run.first:
            runs[-1].join(run)
            return 0
        else:
            runs.append(run)
        return 1

    def runs(self) -> Iterator[_Run]:
        """Yield all runs."""
        return chain.from_iterable(self.directions.values())


class Book:
    """What the edge `source` has delivered, until it is taken.

    Args:
        incarnation: µs since 1970 when the edge's process started.
    """

    def __init__(self, source: str, incarnation: int) -> None:
        self.payloads = 0  # in it
        self._source = source
        self._incarnation = incarnation
        self._taken = 0  # facts so far
        # (app, number of the slice) → what was delivered then, the oldest first
        self._slices: dict[tuple[str, int], _Slice] = {}
        self._runs = 0  # in it
        self._runs_limit = SPANS
        self._kept = 0  # sizes one by one, about: never less than there are

    def add(self, direction: Direction, first: int, sizes: list[int], at: int) -> None:
        """Add payloads that were delivered at `at`: their sizes, in order, from number `first`. The list is
        the book's from now on."""
        key = direction.app, at // SLICE
        page = self._slices.get(key)
        if page is None:
            page = self._slices[key] = _Slice(at)
        page.at = max(page.at, at)
        runs = page.directions.get(direction)
        if runs is not None and runs[-1].end == first:
            runs[-1].append(sizes)  # nearly always, where there is something
        else:
            self._runs += page.add(direction, _Run(first, sizes))
            if self._runs > self._runs_limit:
                self._merge_slices()
        self.payloads += len(sizes)
        self._kept += len(sizes)
        if self._kept > KEPT_SIZES:
            self._fold()

    def _fold(self) -> None:
        """Keep fewer sizes one by one: none, except if most were folded already."""
        runs = [run for page in self._slices.values() for run in page.runs()]
        self._kept = sum(len(run.sizes) for run in runs)
        if self._kept <= KEPT_SIZES // 2:
            return
        for run in runs:
            if run.sizes:
                run.fold()
        self._kept = 0

    def _merge_slices(self) -> None:
        """Merge the two oldest slices of an app that has two. If none has, there are that many directions."""
        oldest: dict[str, tuple[str, int]] = {}
        for key in self._slices:
            if key[0] in oldest:
                self._merge(self._slices.pop(oldest[key[0]]), self._slices[key])
                return
            oldest[key[0]] = key
        self._runs_limit = 2 * self._runs

    def _merge(self, older: _Slice, newer: _Slice) -> None:
        before = sum(map(len, older.directions.values())) + sum(map(len, newer.directions.values()))
        for direction, runs in newer.directions.items():
            for run in runs:
                older.add(direction, run)
        newer.directions = older.directions
        self._runs += sum(map(len, newer.directions.values())) - before

    def take(self) -> DeliveriesCounted | None:
        """Remove the oldest of it, as a fact; None if there is nothing."""
        if not self._slices:
            return None
        key = next(iter(self._slices))
        page = self._slices[key]
        spans: list[Span] = []
        room = FACT_BYTES
        while page.directions and len(spans) < FACT_SPANS and room > 0:
            direction, runs = page.directions.popitem()
            for run in runs:
                spans.append(run.span(direction))
                # a character of an id takes four bytes at most
                room -= (
                    SPAN_BYTES + len(spans[-1].sizes) + 4 * (len(direction.sender) + len(direction.receiver))
                )
            self._runs -= len(runs)
        if not page.directions:
            del self._slices[key]
        self._runs_limit = max(SPANS, min(self._runs_limit, 2 * self._runs))
        self.payloads -= sum(each.payloads for each in spans)
        self._kept = min(self._kept, self.payloads)
        self._taken += 1
        return DeliveriesCounted(
            app=key[0],
            at=page.at,
            source=self._source,
            incarnation=self._incarnation,
            number=self._taken,
            spans=spans,
        )
