"""What bridge-rabbit and analytics agree on over RabbitMQ. No driver here: `declare` is handed a channel.

Every payload exchanged is one message: its body is the size in bytes as ASCII decimal, as in 2019.
Published to the topic exchange `EXCHANGE` with routing key ``<app>.<device>`` (both escaped as subject
tokens), persistent, with ``message_id`` ``<position in EVENTS>.<index in the batch>`` (the same at every
resend) and the headers ``app``, ``from``, ``to``, ``match`` and ``at`` (ms since 1970, when delivered).
What a 2019 client reported by REST went to nobody in no match: ``to`` is empty and ``match`` 0.
A message that cannot be read is rejected and lands in `DEAD_QUEUE`, as it was.
"""

from typing import Any, Protocol, TypeVar

from cloudmatch_bus.contract.subjects import token

EXCHANGE = "cloudmatch.bytes"  # topic
QUEUE = "cloudmatch.bytes.analytics"  # bound to EXCHANGE with '#'
DEAD_EXCHANGE = "cloudmatch.bytes.dead"  # fanout
DEAD_QUEUE = "cloudmatch.bytes.dead"


def routing_key(app: str, device: str) -> str:
    """Routing key of a size that `device` sent."""
    return f"{token(app)}.{token(device)}"


def queue_arguments(queue_type: str) -> dict[str, Any]:
    """Arguments with which `QUEUE` is declared; `queue_type` classic or quorum."""
    return {"x-queue-type": queue_type, "x-dead-letter-exchange": DEAD_EXCHANGE}


class Queue(Protocol):
    """What `declare` needs of a driver's queue."""

    async def bind(self, exchange: str, /, routing_key: str) -> object:
        """Bind the queue to an exchange."""


Q = TypeVar("Q", bound=Queue)
Q_co = TypeVar("Q_co", bound=Queue, covariant=True)


class Channel(Protocol[Q_co]):
    """What `declare` needs of a driver's channel; aio-pika's has it."""

    async def declare_exchange(self, name: str, kind: str, /, *, durable: bool) -> object:
        """Make an exchange, where it is not there."""

    async def declare_queue(self, name: str, /, *, durable: bool, arguments: dict[str, Any]) -> Q_co:
        """Make a queue, where it is not there."""


async def declare(channel: Channel[Q], queue_type: str) -> Q:
    """Declare exchanges and queues, by whoever comes first; give `QUEUE`.

    Args:
        queue_type: classic or quorum.
    """
    await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    await channel.declare_exchange(DEAD_EXCHANGE, "fanout", durable=True)
    dead = await channel.declare_queue(DEAD_QUEUE, durable=True, arguments={"x-queue-type": queue_type})
    await dead.bind(DEAD_EXCHANGE, DEAD_QUEUE)
    queue = await channel.declare_queue(QUEUE, durable=True, arguments=queue_arguments(queue_type))
    await queue.bind(EXCHANGE, "#")
    return queue
