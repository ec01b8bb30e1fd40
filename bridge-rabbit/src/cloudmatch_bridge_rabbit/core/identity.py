"""What names a fact in RabbitMQ, so that consumers know one that comes twice."""

from cloudmatch_bus.contract.amqp_names import fitted
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, Batch
from cloudmatch_bus.contract.subjects import token

MAX_IDENTITY = 230  # bytes: the number of a payload is appended to it


def identity(position: int, fact: AnyFact) -> str:
    """Name a fact by who published it and its number; one without a number by its position.

    EVENTS holds a fact twice if its first ack was lost for longer than JetStream recognizes a repetition.
    """
    if isinstance(fact, Batch | AmountReported) and fact.number:
        return fitted(f"{token(fact.source)}.{fact.incarnation}.{fact.number}", MAX_IDENTITY)
    return f"{position}"
