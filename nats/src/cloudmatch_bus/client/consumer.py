"""Read facts from EVENTS: read, decide, publish, acknowledge.

`DurableConsumer` reads a durable consumer, named like its service and shared by its processes. Facts that
were not acknowledged are redelivered, perhaps behind later ones; after a crash within `streams.ACK_WAIT`.
While the handler is busy, the consumer reports to the server that the facts it holds are in progress.

`OrderedConsumer` gives one process every fact in order. The process stores the position beside what it
writes and resumes there, whatever happened to it, to the connection or to the server.

`history` reads a range of the stream once and affects neither.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import nats.errors
from nats.js.api import ConsumerInfo
from prometheus_client import Counter

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.pull_subscription import Message, PullSubscription
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import AnyFact, decode_fact

log = logging.getLogger("consumer")

BACKOFF = (0.5, 1.0, 2.0, 5.0)  # s before the same facts are handled again, by failures in a row
PROGRESS_INTERVAL = streams.ACK_WAIT / 4  # s between two reports that held facts are in progress
SILENCE = 3.0  # s without an answer, after which an ordered consumer is created again
RETRY = 1.0  # s before another attempt to create one
PORTION = 4 * 2**20  # bytes of facts handled at once, about
DELETE_TIMEOUT = 0.5  # s; the server deletes consumers that are not used

# The metrics keep the name of the first reader.
_read = Counter("cloudmatch_feed_facts", "Facts handled and acknowledged")
_undecodable = Counter("cloudmatch_feed_undecodable", "Messages in EVENTS that are no facts; dropped")
_resumed = Counter("cloudmatch_feed_resumed", "Times an ordered consumer was created again")


class DownstreamError(Exception):
    """The handler's destination cannot be reached: deliver the same facts again, later."""


class Delivery(NamedTuple):
    """A fact and its position in the stream."""

    position: int  # stream sequence, grows
    fact: AnyFact


class Held(NamedTuple):
    """A fact that a durable consumer holds until it is handled."""

    position: int  # stream sequence
    fact: AnyFact
    payload: bytes  # the fact as it was published
    stored: float  # s since 1970, when the stream got it


Handle = Callable[[list[Delivery]], Awaitable[None]]
HandleHeld = Callable[[list[Held]], Awaitable[None]]


def _decode(message: Message, *, report: bool = True) -> AnyFact | None:
    try:
        return decode_fact(message.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if report:
            log.error("message dropped at position %d on %s: %s", message.position, message.subject, error)  # noqa: TRY400  # the message is at fault, not the code
            _undecodable.inc()
        return None


class _Consumer:
    """What both consumers share: failures of the handler, and health."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pull: PullSubscription | None = None
        self._failures = 0  # of the handler, in a row

    def health(self) -> str | None:
        """Return why facts are not read, or None."""
        if self._failures:
            return f"downstream failed {self._failures} times in a row"
        if self._pull is None:
            return "the consumer does not exist yet"
        if self._pull.silence > 2 * SILENCE:
            return "the consumer makes no progress"
        return None

    def _failed(self, count: int, error: DownstreamError) -> float:
        """Count a failure; return the pause after it, in s."""
        pause = BACKOFF[min(self._failures, len(BACKOFF) - 1)]
        self._failures += 1
        log.warning("downstream failed, retrying %d facts in %.1f s: %s", count, pause, error)
        return pause


async def _wait(stop: asyncio.Event, pause: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), pause)


class DurableConsumer(_Consumer):
    """A consumer whose position the server keeps.

    Args:
        linger: after a few facts, wait so long (s) for more of them, which are then handled at once.
        report: count facts and log what is no fact; false where another consumer of the process does.
    """

    def __init__(self, bus: Bus, durable: str, *, linger: float = 0.0, report: bool = True) -> None:
        super().__init__(bus)
        self._durable = durable
        self._linger = linger
        self._report = report
        self._held: Sequence[Message] = ()  # being handled, or about to be

    async def run(self, handle: HandleHeld, stop: asyncio.Event) -> None:
        """Pass batches of facts to `handle` until `stop`; acknowledge each once `handle` has returned.

        Anything but `DownstreamError` raised by `handle` is a bug and ends the run.
        """
        self._pull = pull = PullSubscription(self._bus, self._durable, stop, self._linger)
        reporting = asyncio.create_task(self._report_progress(pull))
        try:
            while not stop.is_set():
                await self._batch(await pull.messages(), handle, stop)
            for message in await pull.drain():  # for the next process, now instead of after `ACK_WAIT`
                self._bus.publish(message.reply, b"-NAK")
        finally:
            reporting.cancel()
            await pull.close()

    async def _report_progress(self, pull: PullSubscription) -> None:
        """Keep the server from redelivering messages that have been held here for a while."""
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL)
            since = time.monotonic() - PROGRESS_INTERVAL
            for message in (*self._held, *pull.waiting):
                if message.arrived < since:
                    self._bus.publish(message.reply, b"+WPI")

    async def _batch(self, messages: list[Message], handle: HandleHeld, stop: asyncio.Event) -> None:
        self._held = messages
        for portion in _portions(messages):
            if stop.is_set():  # for the next process, now instead of after `ACK_WAIT`
                self._acknowledge(self._held, b"-NAK")
                self._held = ()
            if not self._held or not await self._portion(portion, handle, stop):
                return

    async def _portion(self, messages: Sequence[Message], handle: HandleHeld, stop: asyncio.Event) -> bool:
        """Handle the first of the held messages; False if that failed: then none is held any more."""
        facts = []
        for message in messages:
            if fact := _decode(message, report=self._report):
                facts.append(Held(message.position, fact, message.payload, message.stored))
            else:
                self._bus.publish(message.reply, b"+TERM")
        try:
            if facts:
                await handle(facts)
        except DownstreamError as error:
            pause = self._failed(len(self._held), error)
            self._acknowledge(self._held, b"-NAK " + msgspec.json.encode({"delay": int(pause * 1e9)}))
            self._held = ()
            await _wait(stop, pause)
            return False
        if facts:
            self._failures = 0
        self._acknowledge(messages, b"+ACK")
        self._held = self._held[len(messages) :]
        if self._report:
            _read.inc(len(facts))
        return True

    def _acknowledge(self, messages: Sequence[Message], ack: bytes) -> None:
        for message in messages:
            self._bus.publish(message.reply, ack)


class OrderedConsumer(_Consumer):
    """A consumer whose position its reader keeps.

    Args:
        linger: after a few facts, wait so long (s) for more of them, which are then handled at once.
    """

    def __init__(self, bus: Bus, name: str, *, linger: float = 0.0) -> None:
        super().__init__(bus)
        self._linger = linger
        self.position = 0  # of the last message that was handled or dropped
        self._name = name
        self._broken = False  # messages may have been lost on their way
        bus.on_reconnect.append(self._reconnected)

    async def _reconnected(self) -> None:
        self._broken = True

    async def run(self, handle: Handle, after: int, stop: asyncio.Event) -> None:
        """Pass batches of all facts behind position `after` to `handle`, each once, in order, until `stop`.

        After a `DownstreamError` the same batch is passed again. Anything else raised by `handle` is a bug
        and ends the run.
        """
        self.position = position = after
        while not stop.is_set():
            try:
                consumer = await _create(self._bus, self._name, position)
            except (nats.errors.Error, TimeoutError) as error:
                log.warning("cannot read EVENTS, retrying in %.0f s: %r", RETRY, error)
                await _wait(stop, RETRY)
                continue
            self._broken = False
            self._pull = pull = PullSubscription(self._bus, consumer.name, stop, self._linger)
            try:
                position = await self._read(pull, handle, position, stop)
            finally:
                await _delete(self._bus, consumer.name, pull)
            if not stop.is_set():
                _resumed.inc()

    async def _read(self, pull: PullSubscription, handle: Handle, position: int, stop: asyncio.Event) -> int:
        """Read until `stop`, or until the consumer or a message of it is lost; return the position then."""
        order = 0
        while not (stop.is_set() or self._broken or pull.silence > SILENCE):
            for portion in _portions(await pull.messages()):
                deliveries = []
                for message in portion:
                    order += 1
                    if message.order != order:  # those between were lost on their way
                        self._broken = True
                        break
                    position = message.position
                    if fact := _decode(message):
                        deliveries.append(Delivery(position, fact))
                if deliveries and not await self._handled(deliveries, handle, stop):
                    return position
                self.position = position
                if self._broken:
                    break
        return position

    async def _handled(self, deliveries: list[Delivery], handle: Handle, stop: asyncio.Event) -> bool:
        """Pass a batch to `handle` until it succeeds; False if `stop` was set first."""
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


def _portions(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield messages in portions that take a bounded amount of memory once they are decoded."""
    begin = size = 0
    for end, message in enumerate(messages, 1):
        size += len(message.payload)
        if size >= PORTION or end == len(messages):
            yield messages[begin:end]
            begin, size = end, 0


async def _create(bus: Bus, name: str, after: int) -> ConsumerInfo:
    """Create an ordered consumer of the facts behind position `after`."""
    config = stream_config.ordered_consumer(f"{name}-{secrets.token_hex(4)}", after)
    return await bus.jetstream().add_consumer(streams.EVENTS, config)


async def _delete(bus: Bus, name: str, pull: PullSubscription) -> None:
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
        raise TimeoutError(f"cannot read EVENTS: {error!r}") from error
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
        consumer = await _create(bus, name, after)
    except nats.errors.Error as error:
        raise TimeoutError(f"cannot read EVENTS: {error!r}") from error
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
                    batch.append((message.position, _fact(message.payload)))
            if pull.silence > SILENCE:
                raise TimeoutError("the bus stopped answering")
            yield batch
    finally:
        await _delete(bus, consumer.name, pull)


def _fact(payload: bytes) -> AnyFact | None:
    try:
        return decode_fact(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
