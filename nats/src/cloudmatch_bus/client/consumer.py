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
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import nats.errors
from prometheus_client import Counter

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.durable import LOOK_INTERVAL, DurableState
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.client.history import SILENCE, create, delete
from cloudmatch_bus.client.history import history as history
from cloudmatch_bus.client.history import position_range as position_range
from cloudmatch_bus.client.isolation import DownstreamError as DownstreamError
from cloudmatch_bus.client.isolation import SetAside, Unhandled, handle_apart, put_aside
from cloudmatch_bus.client.progress import Progress
from cloudmatch_bus.client.pull_subscription import Message, PullSubscription
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.claims import fact_on
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_bus.contract.unreadable import UNREADABLE

log = logging.getLogger("consumer")

BACKOFF = (0.5, 1.0, 2.0, 5.0)  # s before the same facts are handled again, by failures in a row
PROGRESS_INTERVAL = streams.ACK_WAIT / 4  # s between two reports that held facts are in progress
RETRY = 1.0  # s before another attempt to create one
PORTION = 4 * 2**20  # bytes of facts handled at once, about
UNKNOWN_KIND = "at `$.type`"  # ends the error of a fact of a kind that later versions know

# The metrics keep the name of the first reader.
_read = Counter("cloudmatch_feed_facts", "Facts handled and acknowledged")
_undecodable = Counter("cloudmatch_feed_undecodable", "Messages in EVENTS that are no facts; dropped")
_resumed = Counter("cloudmatch_feed_resumed", "Times an ordered consumer was created again")


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
    subject: str


Handle = Callable[[list[Delivery]], Awaitable[None]]
HandleHeld = Callable[[list[Held]], Awaitable[None]]


def _decode(message: Message) -> AnyFact | str:
    """Decode a message; return why it is no fact if it is none."""
    try:
        return fact_on(message.subject, message.payload)
    except UNREADABLE as error:
        return str(error)


def _dropped(message: Message, reason: str) -> None:
    log.error("message dropped at position %d on %s: %s", message.position, message.subject, reason)
    _undecodable.inc()


def _unhandled(message: Held | Message, reason: str) -> Unhandled:
    return Unhandled(message.position, message.subject, message.payload, reason)


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
        report: count facts, and set aside or drop what is no fact; false where another consumer of the
            process does.
        state: of the consumer at the server, if the caller looks after it.
        set_aside: keeps what cannot be handled; without it, that is a bug.
    """

    def __init__(
        self,
        bus: Bus,
        durable: str,
        *,
        linger: float = 0.0,
        report: bool = True,
        state: DurableState | None = None,
        set_aside: SetAside | None = None,
    ) -> None:
        super().__init__(bus)
        self._durable = durable
        self._linger = linger
        self._report = report
        self._state = state or DurableState(bus, durable)
        self._keeps = state is None
        self._set_aside = set_aside
        self._held: Sequence[Message] = ()  # being handled, or about to be

    def health(self) -> str | None:
        """Return why facts are not read, or None."""
        return self._state.problem() or super().health() or self._state.stalled()

    async def run(self, handle: HandleHeld, stop: asyncio.Event) -> None:
        """Pass batches of facts to `handle` until `stop`; acknowledge each once `handle` has returned.

        Anything but `DownstreamError` raised by `handle` for a fact on its own sets that fact aside, or ends
        the run.
        """
        self._pull = pull = PullSubscription(self._bus, self._durable, stop, self._linger)
        helpers = [asyncio.create_task(self._report_progress(pull))]
        if self._keeps:
            helpers.append(asyncio.create_task(self._state.keep(stop)))
        try:
            while not stop.is_set():
                await self._batch(await pull.messages(), handle, stop)
            for message in await pull.drain():  # for the next process, now instead of after `ACK_WAIT`
                self._bus.publish(message.reply, b"-NAK")
        finally:
            for each in helpers:
                each.cancel()
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
        try:
            for message in messages:
                if self._state.is_done(message.position, message.stored):
                    continue
                fact = _decode(message)
                if not isinstance(fact, str):
                    facts.append(
                        Held(message.position, fact, message.payload, message.stored, message.subject)
                    )
                elif self._report:
                    await self._put_away(message, fact)
            if facts:
                await handle_apart(facts, handle, _unhandled, self._set_aside)
        except DownstreamError as error:
            pause = self._failed(len(self._held), error)
            self._acknowledge(self._held, b"-NAK " + msgspec.json.encode({"delay": int(pause * 1e9)}))
            self._held = ()
            await _wait(stop, pause)
            return False
        if facts:
            self._failures = 0
        self._acknowledge(messages, b"+ACK")
        for message in messages:
            self._state.acknowledged(message.position, message.stored)
        self._held = self._held[len(messages) :]
        if self._report:
            _read.inc(len(facts))
        return True

    async def _put_away(self, message: Message, reason: str) -> None:
        """Set aside what is no fact; drop it where nothing is kept, or if it is of an unknown kind.

        Raises:
            DownstreamError: it cannot be set aside now.
        """
        if self._set_aside is None or reason.endswith(UNKNOWN_KIND):
            _dropped(message, reason)
        else:
            await put_aside(_unhandled(message, reason), self._set_aside)

    def _acknowledge(self, messages: Sequence[Message], ack: bytes) -> None:
        for message in messages:
            self._bus.publish(message.reply, ack)


class OrderedConsumer(_Consumer):
    """A consumer whose position its reader keeps.

    Args:
        linger: after a few facts, wait so long (s) for more of them, which are then handled at once.
        resume: called before every beginning with the position that was reached; returns the one to begin
            behind. It raises what the bus raises.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        *,
        linger: float = 0.0,
        resume: Callable[[int], Awaitable[int]] | None = None,
    ) -> None:
        super().__init__(bus)
        self._resume = resume
        self._linger = linger
        self.position = 0  # of the last message that was handled or dropped
        self._name = name
        self._broken = False  # messages may have been lost on their way
        self._said = ""
        self._progress = Progress()
        bus.on_reconnect.append(self._reconnected)

    async def _reconnected(self) -> None:
        self._broken = True

    def health(self) -> str | None:
        """Return why facts are not read, or None."""
        if (reason := super().health()) or (idle := self._progress.stalled(time.monotonic())) is None:
            return reason
        return f"{self._progress.work} facts wait, none read for {idle:.0f} s"

    async def _prove(self, consumer: str) -> None:
        """See until cancelled what the consumer has to deliver; one that stands still is made again."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                info = await self._bus.jetstream().consumer_info(streams.EVENTS, consumer)
                self._progress.observe(info.num_pending or 0, self.position, time.monotonic())
                if self._progress.stalled(time.monotonic()) and not self._failures:
                    self._broken = True

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)

    async def run(self, handle: Handle, after: int, stop: asyncio.Event) -> None:
        """Pass batches of all facts behind position `after` to `handle`, each once, in order, until `stop`.

        After a `DownstreamError` the same batch is passed again, parts of which may have been handled.
        Anything else raised by `handle` ends the run.
        """
        self.position = position = after
        while not stop.is_set():
            try:
                if self._resume is not None:
                    self.position = position = await self._resume(position)
                consumer = await create(self._bus, self._name, position)
            except (nats.errors.Error, TimeoutError) as error:
                self._say(f"cannot read EVENTS, retrying every {RETRY:.0f} s: {described(error)}")
                await _wait(stop, RETRY)
                continue
            self._broken, self._said = False, ""
            self._pull = pull = PullSubscription(self._bus, consumer.name, stop, self._linger)
            proving = asyncio.create_task(self._prove(consumer.name))
            try:
                position = await self._read(pull, handle, position, stop)
            finally:
                proving.cancel()
                await delete(self._bus, consumer.name, pull)
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
                    if isinstance(fact := _decode(message), str):
                        _dropped(message, fact)
                    else:
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
