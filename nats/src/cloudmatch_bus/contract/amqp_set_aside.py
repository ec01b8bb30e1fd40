"""Facts that bridge-rabbit could not publish, in RabbitMQ until it can. No driver here.

A message is the fact as it was published on the bus; its headers say who could not publish it, and why.
"""

from cloudmatch_bus.contract.amqp import Channel, Q

QUEUE = "cloudmatch.facts.dead"

# headers of a message
CONSUMER = "consumer"  # of EVENTS, that set it aside
POSITION = "position"  # in EVENTS
SUBJECT, REASON = "subject", "reason"
AT = "at"  # ms since 1970, when it was set aside


async def declare(channel: Channel[Q], queue_type: str) -> Q:
    """Declare the queue and return it.

    Args:
        queue_type: classic or quorum.
    """
    return await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": queue_type})
