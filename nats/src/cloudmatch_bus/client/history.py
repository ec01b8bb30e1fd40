"""Consumers of EVENTS whose position their reader keeps: made, deleted, or read once over a range."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import nats.errors
from nats.js.api import ConsumerInfo

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.client.pull_subscription import Message, PullSubscription
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.claims import fact_on
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_bus.contract.unreadable import UNREADABLE

SILENCE = 3.0  # s without an answer, after which such a consumer is not relied on
DELETE_TIMEOUT = 0.5  # s; the server deletes consumers that are not used


async def create(bus: Bus, name: str, after: int) -> ConsumerInfo:
    """Create an ordered consumer of the facts behind position `after`."""
    config = stream_config.ordered_consumer(f"{name}-{secrets.token_hex(4)}", after)
    return await bus.jetstream().add_consumer(streams.EVENTS, config)


async def delete(bus: Bus, name: str, pull: PullSubscription) -> None:
    await pull.close()
    with contextlib.suppress(nats.errors.Error, TimeoutError):  # else the server deletes it after a while
        await asyncio.wait_for(bus.jetstream().delete_consumer(streams.EVENTS, name), DELETE_TIMEOUT)


async def position_range(bus: Bus) -> tuple[int, int]:
    """Return the first and last position in EVENTS; the first is the larger one if EVENTS is empty.

    Raises:
        TimeoutError: JetStream does not answer, or has no such stream.
    """
    try:
        state = (await bus.jetstream().stream_info(streams.EVENTS)).state
    except nats.errors.Error as error:
        raise TimeoutError(f"cannot read EVENTS: {described(error)}") from error
    return state.first_seq, state.last_seq


async def history(
    bus: Bus, name: str, after: int, upto: int
) -> AsyncIterator[list[tuple[int, AnyFact | None]]]:
    """Yield position and fact of all messages behind `after`, up to `upto`, in order, in batches.

    The fact is None where a message is no fact.

    Raises:
        TimeoutError: the bus does not answer, or lost a message on its way.
    """
    try:
        consumer = await create(bus, name, after)
    except nats.errors.Error as error:
        raise TimeoutError(f"cannot read EVENTS: {described(error)}") from error
    pull = PullSubscription(bus, consumer.name, asyncio.Event())
    order, done = 0, consumer.num_pending == 0
    try:
        while not done:
            batch: list[tuple[int, AnyFact | None]] = []
            for message in await pull.messages():
                order += 1
                if message.order != order:
                    raise TimeoutError(f"a message before position {message.position} was lost on its way")
                done = message.pending == 0 or message.position >= upto
                if message.position <= upto:
                    batch.append((message.position, _fact(message)))
            if pull.silence > SILENCE:
                raise TimeoutError("the bus stopped answering")
            yield batch
    finally:
        await delete(bus, consumer.name, pull)


def _fact(message: Message) -> AnyFact | None:
    try:
        return fact_on(message.subject, message.payload)
    except UNREADABLE:
        return None
