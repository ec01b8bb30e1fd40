"""A durable consumer of EVENTS that a service does without, as its settings say."""

import nats.errors
from nats.js.errors import NotFoundError

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.contract import streams


async def remove(bus: Bus, durable: str) -> bool:
    """Delete the consumer; return whether there was one.

    Raises:
        TimeoutError: JetStream does not answer, or refuses.
    """
    try:
        return await bus.jetstream().delete_consumer(streams.EVENTS, durable)
    except NotFoundError:
        return False
    except nats.errors.Error as error:
        raise TimeoutError(f"consumer {durable} not deleted: {described(error)}") from error
