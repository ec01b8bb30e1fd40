"""The sizes of delivered payloads that wait to be published, by app, by slice of time, and by direction.

Most are counts: no other fact counts them. Others are claims, of which the journal counts what nobody has:
what a dead edge may have left uncounted, and own deliveries that were not published in time, since another
edge may have claimed them meanwhile.

What is added while facts cannot be stored is merged: a direction that goes on delivering takes no more room,
however long that lasts. Numbers and sums stay exact, and nothing is refused. Of the sizes in between, the
latest are kept one by one, and runs of equal ones as they are; others are evened out beyond a limit.

No clock here: `at` arrives with the sizes, in ms since 1970.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, TypedDict

from cloudmatch_bus.contract.deliveries import Claim, Span, encode_sizes, span
from cloudmatch_bus.contract.messages import DeliveriesClaimed, DeliveriesCounted

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
    """What is known of one app and a slice of time; `at` is when the last was delivered."""

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


class _Pages:
    """Slices of all apps, merged where there are too many."""

    def __init__(self) -> None:
        self.payloads = 0  # in them
        # (app, number of the slice) → what was delivered then, the oldest first
        self._slices: dict[tuple[str, int], _Slice] = {}
        self._runs = 0  # in them
        self._runs_limit = SPANS
        self._kept = 0  # sizes one by one, about: never less than there are

    def add(self, direction: Direction, first: int, sizes: list[int], at: int) -> None:
        """Add payloads of a direction."""
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
        self.payloads += len(sizes)
        self._kept += len(sizes)
        self._limit()

    def absorb(self, other: "_Pages") -> None:
        """Add everything that the other has, which is not used any more."""
        for key, page in other._slices.items():
            if (before := self._slices.get(key)) is not None:
                self._merge(before, page)
            self._slices[key] = page
        self.payloads += other.payloads
        self._runs += other._runs
        self._kept += other._kept
        self._limit()

    def _limit(self) -> None:
        if self._runs > self._runs_limit:
            self._merge_slices()
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
        newer.at = max(newer.at, older.at)
        self._runs += sum(map(len, newer.directions.values())) - before

    def take(self) -> tuple[str, int, list[Span]] | None:
        """Remove as much of the oldest slice as a fact holds; None if there is nothing.

        Returns:
            The app, when the last was delivered, and the spans.
        """
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
                ids = 4 * (len(direction.sender) + len(direction.receiver))
                room -= SPAN_BYTES + ids + len(spans[-1].sizes)
            self._runs -= len(runs)
        if not page.directions:
            del self._slices[key]
        self._runs_limit = max(SPANS, min(self._runs_limit, 2 * self._runs))
        self.payloads -= sum([each.payloads for each in spans])
        self._kept = min(self._kept, self.payloads)
        return key[0], page.at, spans


class _Name(TypedDict):
    source: str
    incarnation: int
    number: int


class Taken(NamedTuple):
    """What is taken out of the book."""

    fact: DeliveriesCounted | DeliveriesClaimed
    payloads: int  # that this edge has delivered, of which the fact tells the sizes


class Book:
    """What the edge `source` has delivered, and what was delivered to it and is to be claimed, until taken.

    Args:
        incarnation: µs since 1970 when the edge's process started.
    """

    def __init__(self, source: str, incarnation: int) -> None:
        self._source = source
        self._incarnation = incarnation
        self._taken = 0  # facts so far
        self._counts = _Pages()
        self._late = _Pages()  # delivered by this edge, to be claimed
        self._claims = _Pages()  # delivered to this edge
        self._ends: dict[
            str, dict[Direction, tuple[int, int]]
        ] = {}  # by app: how many were delivered, and when

    @property
    def counting(self) -> bool:
        """Whether there is something to count."""
        return self._counts.payloads > 0

    @property
    def payloads(self) -> int:
        """How many payloads in it this edge has delivered."""
        return self._counts.payloads + self._late.payloads

    def count(
        self, direction: Direction, first: int, sizes: list[int], at: int, *, late: bool = False
    ) -> None:
        """Add payloads that this edge has delivered, as it learned at `at`: their sizes, in order, from
        number `first`. The list is the book's from now on.

        Args:
            late: they are to be claimed.
        """
        (self._late if late else self._counts).add(direction, first, sizes, at)

    def claim(self, direction: Direction, first: int, sizes: list[int], at: int) -> None:
        """Add payloads that were delivered to this edge, as above; without sizes: all before `first` were."""
        if sizes:
            self._claims.add(direction, first, sizes, at)
        else:
            self._ends.setdefault(direction.app, {})[direction] = first, at

    def be_late(self) -> None:
        """Claim what would have been counted."""
        if self.counting:
            self._late.absorb(self._counts)
            self._counts = _Pages()

    def take(self) -> Taken | None:
        """Remove the oldest of it, as a fact; None if there is nothing."""
        if (counted := self._counts.take()) is not None:
            app, at, spans = counted
            fact = DeliveriesCounted(app=app, at=at, spans=spans, **self._name())
            return Taken(fact, _payloads(spans))
        if (late := self._late.take()) is not None:
            app, at, spans = late
            return Taken(self._claimed(app, at, list(map(claim_of, spans))), _payloads(spans))
        if (claimed := self._claims.take()) is not None:
            app, at, spans = claimed
            return Taken(self._claimed(app, at, list(map(claim_of, spans))), 0)
        if self._ends:
            return Taken(self._take_ends(), 0)
        return None

    def _take_ends(self) -> DeliveriesClaimed:
        app = next(iter(self._ends))
        ends = self._ends[app]
        claims: list[Claim] = []
        latest = 0
        while ends and len(claims) < FACT_SPANS:
            direction, (delivered, at) = ends.popitem()
            claims.append(Claim(direction.sender, direction.receiver, direction.match, delivered))
            latest = max(latest, at)
        if not ends:
            del self._ends[app]
        return self._claimed(app, latest, claims)

    def _claimed(self, app: str, at: int, claims: list[Claim]) -> DeliveriesClaimed:
        return DeliveriesClaimed(app=app, at=at, claims=claims, **self._name())

    def _name(self) -> _Name:
        """Return the fields that name the next fact for ever."""
        self._taken += 1
        return {"source": self._source, "incarnation": self._incarnation, "number": self._taken}


def claim_of(span: Span) -> Claim:
    """Return the claim that the payloads of a span, and all before them, were delivered."""
    return Claim(span.sender, span.receiver, span.match, span.end, span)


def claimed_instead(fact: DeliveriesCounted) -> DeliveriesClaimed:
    """Return what claims what a fact counts."""
    return DeliveriesClaimed(
        app=fact.app,
        at=fact.at,
        source=fact.source,
        incarnation=fact.incarnation,
        number=fact.number,
        claims=list(map(claim_of, fact.spans)),
    )


def _payloads(spans: list[Span]) -> int:
    return sum([span.payloads for span in spans])
