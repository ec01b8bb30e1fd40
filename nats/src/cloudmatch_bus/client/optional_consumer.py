"""A durable consumer of EVENTS that a service makes and deletes itself, as its settings say."""

import nats.errors
from nats.js.errors import NotFoundError

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.contract import streams


async def ensure(bus: Bus, durable: str) -> int:
    """Make the consumer unless it exists; a new one begins at the end of the stream.

    Returns:
        How many facts it has not acknowledged.

    Raises:
        TimeoutError: JetStream does not answer, or refuses.
    """
    js = bus.jetstream()
    try:
        try:
            info = await js.consumer_info(streams.EVENTS, durable)
        except NotFoundError:
            info = await js.add_consumer(streams.EVENTS, stream_config.durable_consumer(durable, new=True))
    except nats.errors.Error as error:
        raise TimeoutError(f"no consumer {durable}: {error!r}") from error
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


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
        raise TimeoutError(f"consumer {durable} not deleted: {error!r}") from error
