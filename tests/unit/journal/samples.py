"""A small journal, and facts to fill it with."""

from cloudmatch_bus.client.consumer import Delivery
from cloudmatch_bus.contract.messages import PayloadsDelivered

SIZE = 4  # facts in a segment


def payload(position: int) -> Delivery:
    """A payload of 4 bytes from a to a device whose id needs escaping."""
    fact = PayloadsDelivered(app="default", at=position, match=7, sender="a", receiver="b/ø ?", sizes=[4])
    return Delivery(position, fact)
