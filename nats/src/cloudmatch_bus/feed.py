"""Read facts from EVENTS: read, decide, publish, acknowledge.

A durable pull consumer, named like its service, goes on where it stopped. A message is acknowledged
only after the handler returned, so a crash repeats facts rather than losing them; `Delivery.position`
tells a repetition.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from prometheus_client import Counter

from cloudmatch_bus import streams
from cloudmatch_bus.connection import Bus
from cloudmatch_bus.messages import AnyFact, decode_fact

log = logging.getLogger("feed")

BATCH = 500
WAIT = 1.0  # s for the first message of a batch
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # s before the same facts come again, by failures in a row

_read = Counter("cloudmatch_feed_facts", "Facts handled and acknowledged")
_undecodable = Counter("cloudmatch_feed_undecodable", "Messages in EVENTS that are no fact; dropped")


class DownstreamError(Exception):
    """Whatever the handler writes to cannot be reached: the same facts should come again, later."""


class Delivery(NamedTuple):
    """One fact and where it stands in the stream."""

    position: int  # stream sequence, grows
    fact: AnyFact


Handle = Callable[[list[Delivery]], Awaitable[None]]


class Feed:
    """A service's place in the stream of facts."""

    def __init__(self, bus: Bus, durable: str) -> None:
        self._bus = bus
        self._durable = durable
        self._beat = 0.0  # when the server last answered
        self._failures = 0  # of the handler, in a row

    def health(self) -> str | None:
        """Give the reason why facts do not flow, or None."""
        if self._failures:
            return f"downstream failed {self._failures} times in a row"
        if time.monotonic() - self._beat > 10:
            return "the consumer does not progress"
        return None

    async def run(self, handle: Handle, stop: asyncio.Event) -> None:
        """Give batches of facts to `handle`, in order, until `stop` is set.

        Whatever `handle` raises besides `DownstreamError` is a bug and ends the run.
        """
        subscription = await self._bus.jetstream().pull_subscribe_bind(self._durable, streams.EVENTS)
        while not stop.is_set():
            try:
                messages = await subscription.fetch(BATCH, timeout=WAIT)
            except NatsTimeoutError:
                messages = []
            except NatsError as error:
                log.warning("cannot read EVENTS: %r", error)
                await asyncio.sleep(WAIT)
                continue
            self._beat = time.monotonic()
            if messages:
                await self._batch(messages, handle, stop)
        await subscription.unsubscribe()

    async def _batch(self, messages: list[Msg], handle: Handle, stop: asyncio.Event) -> None:
        deliveries, good = [], []
        for message in messages:
            position = message.metadata.sequence.stream
            try:
                deliveries.append(Delivery(position, decode_fact(message.data)))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.error("dropped position %d on %s: %s", position, message.subject, error)  # noqa: TRY400  # the message is at fault, not the code
                _undecodable.inc()
                await message.term()
            else:
                good.append(message)
        if not good:
            return
        try:
            await handle(deliveries)
        except DownstreamError as error:
            pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures += 1
            log.warning("will try %d facts again in %.1f s: %s", len(good), pause, error)
            for message in good:
                await message.nak(delay=pause)
            # Later facts must not overtake these: read no further before they come again.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            return
        self._failures = 0
        for message in good:
            await message.ack()
        _read.inc(len(good))
