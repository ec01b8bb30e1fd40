"""Facts as readers of the journal see them: each direction of a batch as an event of its own.

`DeliveriesCounted` is shown as one `PayloadsDelivered` for each span, `DeliveriesClaimed` as one
`PayloadsClaimed` for each claim, all at the position of their batch. Other facts are shown as they are.
"""

from collections.abc import Iterator
from itertools import chain, repeat

from cloudmatch_bus.contract.deliveries import Span, even_sizes
from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceLeft,
    Fact,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)

MAX_SIZES = 1_000_000  # shown of one batch


class PayloadsClaimed(Fact, frozen=True, kw_only=True, tag="claimed"):
    """Payloads were delivered that may have been counted; the journal counts those that were not.

    All payloads of the direction before number `delivered` were delivered; `sizes` are those of the last of
    them, as far as they are still known.
    """

    match: int
    sender: str
    receiver: str
    delivered: int
    sizes: list[int]  # bytes

    @property
    def primary_device(self) -> str:
        return self.sender


ShownFact = (
    DeviceConnected
    | DeviceLeft
    | MatchMade
    | MatchEnded
    | PayloadsDelivered
    | PayloadsClaimed
    | AmountReported
)


def shown(fact: AnyFact, device: str | None = None) -> Iterator[ShownFact]:
    """Yield a fact as it is shown; of a batch, perhaps only what names a device."""
    match fact:
        case DeliveriesCounted():
            room = MAX_SIZES
            for span in fact.spans:
                if device in (None, span.sender, span.receiver):
                    sizes = known_sizes(span, room)
                    room -= len(sizes)
                    yield PayloadsDelivered(
                        app=fact.app,
                        at=fact.at,
                        match=span.match,
                        sender=span.sender,
                        receiver=span.receiver,
                        sizes=sizes,
                    )
        case DeliveriesClaimed():
            room = MAX_SIZES
            for claim in fact.claims:
                if device in (None, claim.sender, claim.receiver):
                    sizes = [] if claim.span is None else known_sizes(claim.span, room)
                    room -= len(sizes)
                    yield PayloadsClaimed(
                        app=fact.app,
                        at=fact.at,
                        match=claim.match,
                        sender=claim.sender,
                        receiver=claim.receiver,
                        delivered=claim.delivered,
                        sizes=sizes,
                    )
        case _:
            yield fact


def known_sizes(span: Span, most: int) -> list[int]:
    """Return the sizes of a span, `most` at most: evened out if its text does not add up to its totals."""
    try:
        runs = _runs(span.sizes)
    except ValueError:
        runs = []
    if sum(count for _, count in runs) != span.payloads or sum(s * n for s, n in runs) != span.bytes:
        runs = _runs(even_sizes(span.payloads, span.bytes))
    sizes: list[int] = []
    for size, count in runs:
        sizes.extend(repeat(size, min(count, most - len(sizes))))
    return sizes


def _runs(text: str) -> list[tuple[int, int]]:
    """Return (size, number of payloads) for each run.

    Raises:
        ValueError: the text is malformed.
    """
    runs = []
    for run in text.split(","):
        size, _, count = run.partition("*")
        runs.append((int(size), int(count or 1)))
    if min(chain.from_iterable(runs)) < 0:
        raise ValueError(f"negative: {text}")
    return runs
