"""Publish messages to RabbitMQ with all their properties, each with a task that awaits its confirm.

This uses aiormq, the layer below aio-pika. `channel` publishes what the bridge has prepared.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq import spec
from aiormq.channel import Channel

# the driver logs a traceback for every lost connection; we log one line
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

CONNECT_TIMEOUT = 5.0  # s
CONFIRM_TIMEOUT = 10.0  # s without a confirm, while RabbitMQ accepts messages

FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError)  # RabbitMQ is unreachable, or refuses


async def underlay(channel: AbstractChannel) -> Channel:
    """Return aiormq's channel below an aio-pika channel."""
    below = await channel.get_underlay_channel()
    assert isinstance(below, Channel)
    return below


async def publish(
    channel: Channel, body: bytes, exchange: str, routing_key: str, properties: spec.Basic.Properties
) -> None:
    """Publish a message; return once RabbitMQ has confirmed. Unroutable is an error."""
    await channel.basic_publish(
        body,
        exchange=exchange,
        routing_key=routing_key,
        properties=properties,
        mandatory=True,
        wait=False,  # do not drain the socket for each message: only the confirm counts
    )


async def failures(tasks: Sequence[asyncio.Task[None]], end: Awaitable[object]) -> list[str | None]:
    """Wait for `end`, then cancel unfinished tasks; return why each task failed, None if it did not.

    Raises:
        Exception: a task failed for a reason other than RabbitMQ.
    """
    try:
        await end
    finally:
        late = {task for task in tasks if task.cancel()}
    return [
        f"no confirm within {CONFIRM_TIMEOUT:.0f} s" if task in late else _failure(task) for task in tasks
    ]


def _failure(task: asyncio.Task[None]) -> str | None:
    if task.cancelled():  # its channel was closed
        return "the connection was lost"
    error = task.exception()
    if error is not None and not isinstance(error, FAILURES):
        raise error
    return repr(error) if error else None
