"""Read facts from EVENTS: read, decide, publish, acknowledge. Two kinds of reader:

`DurableConsumer` is a durable consumer, named like its service: several processes share it. What was not
acknowledged comes again, perhaps behind what follows it: after a crash within `streams.ACK_WAIT`. While
the handler takes its time, the feed tells the server that it still holds what it was given.

`OrderedConsumer` keeps its place itself, beside what it writes: one process gets every fact in order, and
resumes where it stopped, whatever happened to it, to the connection or to the server.

`history` reads a part of the stream once, and disturbs neither.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import msgspec
from nats.errors import Error as NatsError
from prometheus_client import Counter

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.pull_subscription import Message, PullSubscription
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import AnyFact, decode_fact

log = logging.getLogger("feed")

PAUSES = (0.5, 1.0, 2.0, 5.0)  # s before the same facts come again, by failures in a row
HOLD = streams.ACK_WAIT / 4  # s between two words that messages are still held
SILENCE = 3.0  # s without an answer after which a follower makes its consumer anew

_read = Counter("cloudmatch_feed_facts", "Facts handled and acknowledged")
_undecodable = Counter("cloudmatch_feed_undecodable", "Messages in EVENTS that are no fact; dropped")
_resumed = Counter("cloudmatch_feed_resumed", "Times a follower asked anew for what follows its place")


class DownstreamError(Exception):
    """Whatever the handler writes to cannot be reached: the same facts should come again, later."""


class Delivery(NamedTuple):
    """One fact and where it stands in the stream."""

    position: int  # stream sequence, grows
    fact: AnyFact


Handle = Callable[[list[Delivery]], Awaitable[None]]


def _decode(message: Message) -> Delivery | None:
    try:
        return Delivery(message.position, decode_fact(message.payload))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("dropped position %d on %s: %s", message.position, message.subject, error)  # noqa: TRY400  # the message is at fault, not the code
        _undecodable.inc()
        return None


class _Reader:
    """What both kinds of reader share: the handler's failures and the probe."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pull: PullSubscription | None = None
        self._failures = 0  # of the handler, in a row

    def health(self) -> str | None:
        """Give the reason why facts do not flow, or None."""
        if self._failures:
            return f"downstream failed {self._failures} times in a row"
        if self._pull is None:
            return "the consumer is not there yet"
        if self._pull.silent > 2 * SILENCE:
            return "the consumer does not progress"
        return None

    def _failed(self, count: int, error: DownstreamError) -> float:
        """Count a failure; give the pause after it."""
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        log.warning("will try %d facts again in %.1f s: %s", count, pause, error)
        return pause


async def _wait(stop: asyncio.Event, pause: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), pause)


class DurableConsumer(_Reader):
    """A service's place in the stream of facts, kept by the server."""

    def __init__(self, bus: Bus, durable: str) -> None:
        super().__init__(bus)
        self._durable = durable
        self._held: list[Message] = []  # what `handle` has at the moment

    async def run(self, handle: Handle, stop: asyncio.Event) -> None:
        """Give batches of facts to `handle` until `stop` is set; acknowledge what it returned from.

        Whatever `handle` raises besides `DownstreamError` is a bug and ends the run.
        """
        self._pull = pull = PullSubscription(self._bus, self._durable, stop)
        holding = asyncio.create_task(self._hold(pull))
        try:
            while not stop.is_set():
                await self._batch(await pull.messages(), handle, stop)
            for message in await pull.finish():  # for the next process, now rather than after a while
                self._bus.publish(message.reply, b"-NAK")
        finally:
            holding.cancel()
            await pull.close()

    async def _hold(self, pull: PullSubscription) -> None:
        """Tell the server of messages that are here for a while that they are being worked on."""
        while True:
            await asyncio.sleep(HOLD)
            since = time.monotonic() - HOLD
            for message in (*self._held, *pull.waiting):
                if message.arrived < since:
                    self._bus.publish(message.reply, b"+WPI")

    async def _batch(self, messages: list[Message], handle: Handle, stop: asyncio.Event) -> None:
        deliveries, good = [], []
        for message in messages:
            if delivery := _decode(message):
                deliveries.append(delivery)
                good.append(message)
            else:
                self._bus.publish(message.reply, b"+TERM")
        if not good:
            return
        self._held = good
        try:
            await handle(deliveries)
        except DownstreamError as error:
            pause = self._failed(len(good), error)
            again = b"-NAK " + msgspec.json.encode({"delay": int(pause * 1e9)})
            for message in good:
                self._bus.publish(message.reply, again)
            self._held = []
            await _wait(stop, pause)
            return
        self._failures = 0
        for message in good:
            self._bus.publish(message.reply, b"+ACK")
        self._held = []
        _read.inc(len(good))


class OrderedConsumer(_Reader):
    """A reader's place in the stream of facts, kept by the reader."""

    def __init__(self, bus: Bus, name: str) -> None:
        super().__init__(bus)
        self._name = name
        self._broken = False  # messages on their way may have been lost
        bus.on_reconnect.append(self._reconnected)

    async def _reconnected(self) -> None:
        self._broken = True

    async def run(self, handle: Handle, after: int, stop: asyncio.Event) -> None:
        """Give batches of all facts behind position `after` to `handle`, each once, in order, until `stop`.

        After a `DownstreamError` the same batch comes again. Anything else that `handle` raises is a bug
        and ends the run.
        """
        place = after
        while not stop.is_set():
            consumer = f"{self._name}-{secrets.token_hex(4)}"
            try:
                await self._bus.jetstream().add_consumer(
                    streams.EVENTS, stream_config.ordered_consumer(consumer, place)
                )
            except (NatsError, TimeoutError) as error:
                log.warning("cannot read EVENTS: %r", error)
                await _wait(stop, 1.0)
                continue
            self._broken = False
            self._pull = pull = PullSubscription(self._bus, consumer, stop)
            try:
                place = await self._follow(pull, handle, place, stop)
            finally:
                await pull.close()
                with contextlib.suppress(NatsError, TimeoutError):  # else the server forgets it by itself
                    await asyncio.wait_for(
                        self._bus.jetstream().delete_consumer(streams.EVENTS, consumer), 0.5
                    )
            if not stop.is_set():
                _resumed.inc()

    async def _follow(self, pull: PullSubscription, handle: Handle, place: int, stop: asyncio.Event) -> int:
        """Read until `stop`, or until the consumer is lost or has lost a message; give the place then."""
        order = 0
        while not (stop.is_set() or self._broken or pull.silent > SILENCE):
            deliveries = []
            for message in await pull.messages():
                order += 1
                if message.order != order:  # those between were lost on the way
                    self._broken = True
                    break
                place = message.position
                if delivery := _decode(message):
                    deliveries.append(delivery)
            if deliveries and not await self._handled(deliveries, handle, stop):
                break
        return place

    async def _handled(self, deliveries: list[Delivery], handle: Handle, stop: asyncio.Event) -> bool:
        """Give a batch to `handle` until it took it; False when `stop` came first."""
        while True:
            try:
                await handle(deliveries)
            except DownstreamError as error:
                await _wait(stop, self._failed(len(deliveries), error))
                if stop.is_set():
                    return False
            else:
                self._failures = 0
                _read.inc(len(deliveries))
                return True


async def position_range(bus: Bus) -> tuple[int, int]:
    """Give the positions of the first and the last message in EVENTS; the first is larger when it is empty.

    Raises:
        TimeoutError: JetStream does not answer, or has no such stream.
    """
    try:
        state = (await bus.jetstream().stream_info(streams.EVENTS)).state
    except NatsError as error:
        raise TimeoutError(f"cannot read EVENTS: {error!r}") from error
    return state.first_seq, state.last_seq


async def history(
    bus: Bus, name: str, after: int, upto: int
) -> AsyncIterator[list[tuple[int, AnyFact | None]]]:
    """Give position and fact of all messages behind `after`, up to `upto`, in order, in batches.

    A message that is no fact has None.

    Raises:
        TimeoutError: the bus does not answer, or lost a message on the way.
    """
    consumer = f"{name}-{secrets.token_hex(4)}"
    try:
        made = await bus.jetstream().add_consumer(
            streams.EVENTS, stream_config.ordered_consumer(consumer, after)
        )
    except NatsError as error:
        raise TimeoutError(f"cannot read EVENTS: {error!r}") from error
    never = asyncio.Event()
    pull = PullSubscription(bus, consumer, never)
    order, over = 0, made.num_pending == 0
    try:
        while not over:
            batch: list[tuple[int, AnyFact | None]] = []
            for message in await pull.messages():
                order += 1
                if message.order != order:
                    raise TimeoutError(f"the connection lost a message before position {message.position}")
                over = message.pending == 0 or message.position >= upto
                if message.position <= upto:
                    batch.append((message.position, _fact(message.payload)))
            if pull.silent > SILENCE:
                raise TimeoutError("the bus does not answer any more")
            yield batch
    finally:
        await pull.close()
        with contextlib.suppress(NatsError, TimeoutError):  # else the server forgets it by itself
            await asyncio.wait_for(bus.jetstream().delete_consumer(streams.EVENTS, consumer), 0.5)


def _fact(payload: bytes) -> AnyFact | None:
    try:
        return decode_fact(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
