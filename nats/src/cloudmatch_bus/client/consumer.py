"""Read facts from EVENTS by a durable consumer: read, decide, publish, acknowledge.

It is named like its service and shared by the service's processes. Facts that were not acknowledged are
redelivered, perhaps behind later ones; after a crash within `streams.ACK_WAIT`. While the handler is busy,
the consumer reports to the server that the facts it holds are in progress.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.durable import DurableState
from cloudmatch_bus.client.handling import Failures, decode, dropped, facts_read, wait
from cloudmatch_bus.client.isolation import DownstreamError, SetAside, Unhandled, handle_apart, put_aside
from cloudmatch_bus.client.pull_subscription import Message, PullSubscription
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import AnyFact

log = logging.getLogger("consumer")

PROGRESS_INTERVAL = streams.ACK_WAIT / 4  # s between two reports that held facts are in progress
SILENCE = 6.0  # s without an answer, after which the consumer makes no progress
PORTION = 4 * 2**20  # bytes of facts handled at once, about
UNKNOWN_KIND = "at `$.type`"  # ends the error of a fact of a kind that later versions know


class Held(NamedTuple):
    """A fact that a durable consumer holds until it is handled."""

    position: int  # stream sequence
    fact: AnyFact
    payload: bytes  # the fact as it was published
    stored: float  # s since 1970, when the stream got it
    subject: str


HandleHeld = Callable[[list[Held]], Awaitable[None]]


def _unhandled(message: Held | Message, reason: str) -> Unhandled:
    return Unhandled(message.position, message.subject, message.payload, reason)


class DurableConsumer:
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
        self._bus = bus
        self._pull: PullSubscription | None = None
        self._failures = Failures()
        self._durable = durable
        self._linger = linger
        self._report = report
        self._state = state or DurableState(bus, durable)
        self._keeps = state is None
        self._set_aside = set_aside
        self._held: Sequence[Message] = ()  # being handled, or about to be

    def health(self) -> str | None:
        """Return why facts are not read, or None."""
        return self._state.problem() or self._failures.problem() or self._silent() or self._state.stalled()

    def _silent(self) -> str | None:
        if self._pull is None:
            return "the consumer does not exist yet"
        return "the consumer makes no progress" if self._pull.silence > SILENCE else None

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
                fact = decode(message.subject, message.payload)
                if not isinstance(fact, str):
                    facts.append(
                        Held(message.position, fact, message.payload, message.stored, message.subject)
                    )
                elif self._report:
                    await self._put_away(message, fact)
            if facts:
                await handle_apart(facts, handle, _unhandled, self._set_aside)
        except DownstreamError as error:
            pause = self._failures.failed(len(self._held), error)
            self._acknowledge(self._held, b"-NAK " + msgspec.json.encode({"delay": int(pause * 1e9)}))
            self._held = ()
            await wait(stop, pause)
            return False
        if facts:
            self._failures.end()
        self._acknowledge(messages, b"+ACK")
        for message in messages:
            self._state.acknowledged(message.position, message.stored)
        self._held = self._held[len(messages) :]
        if self._report:
            facts_read.inc(len(facts))
        return True

    async def _put_away(self, message: Message, reason: str) -> None:
        """Set aside what is no fact; drop it where nothing is kept, or if it is of an unknown kind.

        Raises:
            DownstreamError: it cannot be set aside now.
        """
        if self._set_aside is None or reason.endswith(UNKNOWN_KIND):
            dropped(message.position, message.subject, reason)
        else:
            await put_aside(_unhandled(message, reason), self._set_aside)

    def _acknowledge(self, messages: Sequence[Message], ack: bytes) -> None:
        for message in messages:
            self._bus.publish(message.reply, ack)


def _portions(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield messages in portions that take a bounded amount of memory once they are decoded."""
    begin = size = 0
    for end, message in enumerate(messages, 1):
        size += len(message.payload)
        if size >= PORTION or end == len(messages):
            yield messages[begin:end]
            begin, size = end, 0
