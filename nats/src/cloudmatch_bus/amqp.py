"""What bridge-rabbit and analytics agree on over RabbitMQ. Names only: no driver here.

Every payload exchanged is one message: its body is the size in bytes as ASCII decimal, as in 2019.
Published to the topic exchange `EXCHANGE` with routing key ``<app>.<device>`` (both escaped as subject
tokens), persistent, with ``message_id`` ``<position in EVENTS>.<index in the batch>`` (the same at every
resend) and the headers ``app``, ``from``, ``to``, ``match`` and ``at`` (ms since 1970, when delivered).
What a 2019 client reported by REST went to nobody in no match: ``to`` is empty and ``match`` 0.
A message that cannot be read is rejected and lands in `DEAD_QUEUE`, as it was.
"""

from typing import Any

from cloudmatch_bus.subjects import token

EXCHANGE = "cloudmatch.bytes"  # topic
QUEUE = "cloudmatch.bytes.analytics"  # bound to EXCHANGE with '#'
DEAD_EXCHANGE = "cloudmatch.bytes.dead"  # fanout
DEAD_QUEUE = "cloudmatch.bytes.dead"


def routing_key(app: str, device: str) -> str:
    """Routing key of a size that `device` sent."""
    return f"{token(app)}.{token(device)}"


def queue_arguments(queue_type: str) -> dict[str, Any]:
    """Arguments with which `QUEUE` is declared, by whoever comes first; `queue_type` classic or quorum."""
    return {"x-queue-type": queue_type, "x-dead-letter-exchange": DEAD_EXCHANGE}
