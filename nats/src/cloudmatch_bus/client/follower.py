"""Follow EVENTS: one process gets every fact, in order.

The process stores the position beside what it writes and goes on there, whatever happened to it, to the
connection or to the server. It makes nothing at the server, where nobody knows of it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

import nats.errors
from prometheus_client import Counter

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.client.handling import Failures, decode, dropped, facts_read, wait
from cloudmatch_bus.client.history import SILENCE, Message, Reader
from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_bus.client.progress import Progress
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import AnyFact

log = logging.getLogger("follower")

FEW = 50  # messages, at most, after which it pauses: more are a backlog
PAUSE = 0.1  # s before it looks for more
LOOK_INTERVAL = 2.0  # s between two looks at the stream
RETRY = 1.0  # s before it begins again
PATIENCE = 5  # times that it asks in vain for the same position before it says so

_resumed = Counter("cloudmatch_feed_resumed", "Times that reading EVENTS in order had to begin again")


class Delivery(NamedTuple):
    """A fact and its position in the stream."""

    position: int  # stream sequence, grows
    fact: AnyFact


Handle = Callable[[list[Delivery]], Awaitable[None]]


class Follower:
    """Reads from a position on.

    Args:
        resume: called before every beginning, as where facts are missing, with the position that was reached;
            returns the one to begin behind. It raises what the bus raises.
    """

    def __init__(self, bus: Bus, *, resume: Callable[[int], Awaitable[int]] | None = None) -> None:
        self._bus = bus
        self._resume = resume
        self.position = 0  # of the last message that was handled or dropped
        self._reader: Reader | None = None
        self._answered = time.monotonic()  # when the stream last was
        self._in_vain = 0  # times in a row that reading failed
        self._failures = Failures()
        self._said = ""
        self._progress = Progress()
        bus.on_reconnect.append(self._reconnected)

    async def _reconnected(self) -> None:
        self._begin_again("reconnected")

    def _begin_again(self, reason: str) -> None:
        if self._reader is not None:
            self._reader.fail(reason)

    def health(self) -> str | None:
        """Return why facts are not read, or None."""
        if problem := self._failures.problem():
            return problem
        if self._in_vain >= PATIENCE:
            return f"nothing is read behind position {self.position}, asked {self._in_vain} times"
        if self._reader is None or time.monotonic() - self._answered > 2 * SILENCE:
            return "EVENTS does not answer"
        if (idle := self._progress.stalled(time.monotonic())) is not None:
            return f"{self._progress.work} facts wait, none read for {idle:.0f} s"
        return None

    async def run(self, handle: Handle, after: int, stop: asyncio.Event) -> None:
        """Pass batches of all facts behind position `after` to `handle`, each once, in order, until `stop`.

        After a `DownstreamError` the same batch is passed again, parts of which may have been handled.
        Anything else raised by `handle` ends the run.
        """
        self.position = after
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._begin_again("stopping"))
        try:
            while not stop.is_set():
                await self._follow(handle, stop)
        finally:
            stopping.cancel()

    async def _follow(self, handle: Handle, stop: asyncio.Event) -> None:
        """Read until `stop`, or until something has happened to the stream or to the connection."""
        looking: asyncio.Task[None] | None = None
        try:
            if self._resume is not None:
                self.position = await self._resume(self.position)
            self._reader = reader = Reader(self._bus)
            looking = asyncio.create_task(self._look())
            await self._read(reader, handle, stop)
        except (nats.errors.Error, TimeoutError) as error:
            self._in_vain += 1
            if not stop.is_set() and self._bus.connected:
                self._say(f"cannot read EVENTS, retrying: {described(error)}")
                await wait(stop, RETRY)
        finally:
            if looking is not None:
                looking.cancel()
                await reader.close()
        if not stop.is_set():
            _resumed.inc()

    async def _read(self, reader: Reader, handle: Handle, stop: asyncio.Event) -> None:
        missing_known = True  # facts that are missing behind the position where it began
        while not stop.is_set():
            messages = await reader.read(self.position)
            self._answered, self._in_vain, self._said = time.monotonic(), 0, ""
            if messages and messages[0].position > self.position + 1 and not missing_known:
                return
            missing_known = False
            if not await self._handle(messages, handle, stop):
                return
            if len(messages) <= FEW:
                await wait(stop, PAUSE)

    async def _handle(self, messages: list[Message], handle: Handle, stop: asyncio.Event) -> bool:
        """Handle a batch, again and again until that succeeds; False if `stop` was set first."""
        deliveries = []
        for message in messages:
            if isinstance(fact := decode(message.subject, message.payload), str):
                dropped(message.position, message.subject, fact)
            else:
                deliveries.append(Delivery(message.position, fact))
        while deliveries:
            try:
                await handle(deliveries)
                break
            except DownstreamError as error:
                await wait(stop, self._failures.failed(len(deliveries), error))
                if stop.is_set():
                    return False
        self._failures.end()
        facts_read.inc(len(deliveries))
        if messages:
            self.position = messages[-1].position
        return True

    async def _look(self) -> None:
        """See until cancelled whether it is still the same stream, and whether there is progress."""
        created: datetime | None = None
        while True:
            try:
                info = await self._bus.jetstream().stream_info(streams.EVENTS)
            except (nats.errors.Error, TimeoutError):
                pass  # those who read say so
            else:
                created, last = created or info.created, info.state.last_seq
                # a stream begins anywhere, an empty one too
                behind = max(self.position, info.state.first_seq - 1)
                self._progress.observe(max(0, last - behind), self.position, time.monotonic())
                if info.created != created or last < self.position:
                    self._begin_again("EVENTS is another stream now")
                elif self._progress.stalled(time.monotonic()) and not self._failures:
                    self._begin_again("no progress")
            await asyncio.sleep(LOOK_INTERVAL)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)
