"""Decide which claimed payloads the journal counts itself: those that nobody else has counted.

A claim is due once it has been pending for a while in this process: a late count of the same payloads gets so
long to arrive. A grant is under way until it has come back through the stream and is folded like any other
fact. Until then, and for as long again as a claim must wait, its payloads are not granted again.

The caller must have read whatever was stored before it grants: a grant that came back, or one that this
process published in an earlier life, is then known.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cloudmatch_bus.contract.deliveries import Span
from cloudmatch_bus.contract.messages import DeliveriesCounted
from cloudmatch_journal.core import coverage
from cloudmatch_journal.core.claims import PendingClaim
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.core.sizes import part

SOURCE = "journal"
MAX_SPANS = 512  # in one fact
SLICE = 10_000  # ms; a fact counts payloads of one


class _UnderWay(NamedTuple):
    """Grants of one direction that have not come back."""

    grants: list[tuple[float, coverage.Range]]  # when, and what
    numbers: coverage.Numbers  # all of these


class Grants:
    """Claims that wait, and grants under way. Times are seconds of any clock that only grows."""

    def __init__(self, ledger: Ledger, incarnation: int, grace: float) -> None:
        """Begin to watch a ledger.

        Args:
            incarnation: µs since 1970 when this process started.
            grace: s for which a claim waits.
        """
        self._ledger = ledger
        self._incarnation = incarnation
        self._grace = grace
        self._since: dict[PendingClaim, float] = {}  # when each was first seen, or granted
        self._under_way: dict[tuple[int, str], _UnderWay] = {}  # by direction
        self._number = 0  # of the last fact

    def due(self, now: float) -> list[PendingClaim]:
        """Return the claims that have been pending for long enough."""
        self._since = {each: self._since.get(each, now) for each in self._ledger.claims}
        return [each for each, since in self._since.items() if now - since >= self._grace]

    def grant(self, due: Iterable[PendingClaim], now: float) -> list[DeliveriesCounted]:
        """Return the facts to publish for claims that were due; settle those for which there is none."""
        self._expire(now)
        batches: dict[tuple[str, int], tuple[int, list[Span]]] = {}  # by app and slice: time and spans
        pending = set(self._ledger.claims)
        settled = []
        for each in sorted(pending.intersection(due), key=lambda each: each.position):
            if uncounted := self._ledger.uncounted(each):
                self._since[each] = now
                _, spans = batches.setdefault((each.app, each.at // SLICE), (each.at, []))
                spans.extend(self._spans(each, uncounted, now))
            else:
                settled.append(each)
        self._ledger.settle(settled)
        return [
            self._fact(app, at, spans[begin : begin + MAX_SPANS])
            for (app, _), (at, spans) in batches.items()
            for begin in range(0, len(spans), MAX_SPANS)
        ]

    def _spans(self, pending: PendingClaim, uncounted: list[coverage.Range], now: float) -> Iterator[Span]:
        """Yield those payloads of a claim that are neither counted nor under way; now they are."""
        assert pending.claim.span is not None
        under_way = self._under_way.setdefault(pending.direction, _UnderWay([], []))
        for each in uncounted:
            for first, end in coverage.missing(under_way.numbers, *each):
                coverage.add(under_way.numbers, first, end)
                under_way.grants.append((now, (first, end)))
                yield part(pending.claim.span, first, end)

    def _expire(self, now: float) -> None:
        """Forget the grants that would have come back by now."""
        for direction, under_way in list(self._under_way.items()):
            grants = [each for each in under_way.grants if now - each[0] < self._grace]
            numbers: coverage.Numbers = []
            for _, (first, end) in grants:
                coverage.add(numbers, first, end)
            if grants:
                self._under_way[direction] = _UnderWay(grants, numbers)
            else:
                del self._under_way[direction]

    def _fact(self, app: str, at: int, spans: list[Span]) -> DeliveriesCounted:
        self._number += 1
        return DeliveriesCounted(
            app=app,
            at=at,
            source=SOURCE,
            incarnation=self._incarnation,
            number=self._number,
            spans=spans,
        )
