"""Which sizes a fact holds, as the messages that RabbitMQ is to get."""

from typing import NamedTuple

from cloudmatch_bus.contract.amqp import routing_key
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, PayloadsDelivered


class Size(NamedTuple):
    """The size of one payload. `message_id` names it for ever: the same fact gives the same."""

    message_id: str
    routing_key: str
    body: bytes  # bytes of the payload, ASCII decimal
    at: int  # ms since 1970
    headers: dict[str, str | int]


def sizes(position: int, fact: AnyFact) -> list[Size]:
    """Give the sizes in the fact at this position of the stream; most kinds of fact hold none."""
    match fact:
        case PayloadsDelivered():
            sender, receiver, number, amounts = fact.sender, fact.receiver, fact.match, fact.sizes
        case AmountReported(event_type="bytesSent"):
            sender, receiver, number, amounts = fact.device, "", 0, [fact.amount]
        case _:
            return []
    key = routing_key(fact.app, sender)
    headers: dict[str, str | int] = {
        "app": fact.app,
        "from": sender,
        "to": receiver,
        "match": number,
        "at": fact.at,
    }
    return [
        Size(f"{position}.{index}", key, b"%d" % amount, fact.at, headers)
        for index, amount in enumerate(amounts)
    ]
