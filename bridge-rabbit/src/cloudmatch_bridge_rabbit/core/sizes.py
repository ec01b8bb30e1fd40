"""The messages that a fact becomes in RabbitMQ: one for each payload size in it."""

from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, PayloadsDelivered


def size_messages(position: int, fact: AnyFact) -> list[SizeMessage]:
    """Return the sizes in the fact at this position of the stream, in order; most kinds of fact have none."""
    match fact:
        case PayloadsDelivered():
            sender, receiver, number, sizes = fact.sender, fact.receiver, fact.match, fact.sizes
        case AmountReported(event_type="bytesSent"):
            sender, receiver, number, sizes = fact.device, "", 0, [fact.amount]
        case _:
            return []
    return [
        SizeMessage(size, fact.app, sender, receiver, number, fact.at, f"{position}.{index}")
        for index, size in enumerate(sizes)
    ]
