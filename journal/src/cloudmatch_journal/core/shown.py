"""Facts as readers of the journal see them: each direction of a batch as an event of its own.

`DeliveriesCounted` is shown as one `PayloadsDelivered` for each span, `DeliveriesClaimed` as one
`PayloadsClaimed` for each claim, all at the position of their batch. Other facts are shown as they are.
"""

from collections.abc import Iterator

from cloudmatch_bus.contract.messages import (
    AmountReported,
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceForgotten,
    DeviceLeft,
    Fact,
    FactsLost,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
)
from cloudmatch_journal.core.sizes import known_sizes

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
    | DeviceForgotten
    | FactsLost
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
