"""A small journal, and facts to fill it with."""

from cloudmatch_bus.client.follower import Delivery
from cloudmatch_bus.contract.deliveries import Claim, Span
from cloudmatch_bus.contract.messages import DeliveriesClaimed, DeliveriesCounted, PayloadsDelivered

SIZE = 4  # facts in a segment


def payload(position: int) -> Delivery:
    """A payload of 4 bytes from a to a device whose id needs escaping."""
    fact = PayloadsDelivered(app="default", at=position, match=7, sender="a", receiver="b/ø ?", sizes=[4])
    return Delivery(position, fact)


def counted(position: int, *spans: Span, app: str = "default") -> Delivery:
    """A batch of deliveries, published by edge-0."""
    fact = DeliveriesCounted(
        app=app, at=position, source="edge-0", incarnation=1, number=position, spans=list(spans)
    )
    return Delivery(position, fact)


def claimed(position: int, *claims: Claim, app: str = "default") -> Delivery:
    """Claims, published by edge-1."""
    fact = DeliveriesClaimed(
        app=app, at=position, source="edge-1", incarnation=2, number=position, claims=list(claims)
    )
    return Delivery(position, fact)
