"""The messages that a fact becomes in RabbitMQ: one for each payload size in it."""

from itertools import count

from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.deliveries import Span, span
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, DeliveriesCounted, PayloadsDelivered


def size_messages(position: int, fact: AnyFact) -> list[SizeMessage]:
    """Return the sizes in the fact at this position of the stream, in order; most kinds of fact have none."""
    numbers = count()
    return [
        SizeMessage(size, fact.app, each.sender, each.receiver, each.match, fact.at, f"{position}.{index}")
        for each in spans(fact)
        for size, index in zip(each.each_size(), numbers)  # noqa: B905  # the numbers never end
    ]


def spans(fact: AnyFact) -> list[Span]:
    """Return what a fact counts; most kinds count nothing."""
    match fact:
        case DeliveriesCounted():
            return fact.spans
        case PayloadsDelivered() if fact.sizes:
            return [span(fact.sender, fact.receiver, fact.match, 0, fact.sizes)]
        case AmountReported(event_type="bytesSent"):
            return [span(fact.device, "", 0, 0, [fact.amount])]
        case _:
            return []
