"""Facts of EVENTS by their positions, without a consumer: direct gets, in batches.

Any server that holds a copy of the stream may answer, even one that is a little behind: what it does not have
yet looks like the end of the stream.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import nats.errors

from cloudmatch_bus.client.connection import Bus, Headers, Subscription
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.client.handling import decode
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.messages import AnyFact

DIRECT_GET = f"$JS.API.DIRECT.GET.{streams.EVENTS}"
BATCH = 500  # messages requested at a time
BATCH_BYTES = 4 * 2**20  # of them; one larger than that comes alone
SILENCE = 3.0  # s without an answer, after which none is expected
END, NOTHING = "204", "404"  # status of what ends a batch; of an answer without messages
LOOKS = 5  # at what a copy of the stream seems not to have
PAUSE = 0.2  # s between them


class Message(NamedTuple):
    """A message of a stream."""

    position: int  # stream sequence
    subject: str
    payload: bytes


class Reader:
    """Reads batch after batch, one at a time; not to be used again once one has failed."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = bus.client.new_inbox()
        self._subscription: Subscription | None = None
        self._messages: list[Message] = []  # of the batch
        self._last = 0  # position of the last of them
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure = ""

    async def read(self, after: int, upto: float = math.inf) -> list[Message]:
        """Return the next messages behind position `after`, perhaps as far as `upto`; none if there are none.

        Raises:
            TimeoutError: the bus does not answer, or lost a message on its way.
        """
        if self._subscription is None:
            self._subscription = await self._bus.subscribe(self._inbox, self._on_message)
        self._messages, self._last = [], 0
        if not self._failure:
            self._complete = asyncio.get_running_loop().create_future()
            request = {"seq": after + 1, "batch": min(BATCH, upto - after), "max_bytes": BATCH_BYTES}
            self._bus.publish(DIRECT_GET, msgspec.json.encode(request), self._inbox)
        seen = -1
        while not self._complete.done():
            if seen == self._last:
                raise TimeoutError("the bus stopped answering")
            seen = self._last
            await asyncio.wait({self._complete}, timeout=SILENCE)
        if self._failure:
            raise TimeoutError(self._failure)
        return self._messages

    def fail(self, reason: str) -> None:
        """Let whoever reads wait no longer."""
        self._failure = self._failure or reason
        if not self._complete.done():
            self._complete.set_result(None)

    def _on_message(self, _subject: str, _reply: str, payload: bytes, headers: Headers) -> None:
        headers = headers or {}
        if self._complete.done():
            return
        if position := int(headers.get("Nats-Sequence", 0)):  # first: a fact may have a header `Status`
            self._follow(headers)
            self._messages.append(Message(position, headers["Nats-Subject"], payload))
            self._last = position
        elif (status := headers.get("Status")) == END:
            self._follow(headers)
            self._complete.set_result(None)
        elif status == NOTHING:
            self._complete.set_result(None)
        else:  # 503: there is no such stream, or none that can be read so
            self.fail(f"no answer from EVENTS: {status}")

    def _follow(self, headers: dict[str, str]) -> None:
        """Each message names the one before it in its batch."""
        if int(headers["Nats-Last-Sequence"]) != self._last:
            self.fail(f"a message behind position {self._last} was lost on its way")

    async def close(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            try:
                await self._bus.unsubscribe(self._subscription)
            except nats.errors.Error:
                self._subscription = None  # it has ended already


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


async def history(bus: Bus, after: int, upto: int) -> AsyncIterator[list[tuple[int, AnyFact | None]]]:
    """Yield position and fact of all messages behind `after`, up to `upto`, in order, in batches.

    The fact is None where a message is no fact.

    Raises:
        TimeoutError: the bus does not answer, or lost a message on its way.
    """
    _, last = await position_range(bus)
    end = min(upto, last)
    reader, looks = Reader(bus), 0
    try:
        while after < end and looks < LOOKS:
            messages = await reader.read(after, end)
            if messages:
                yield [(each.position, _fact(each)) for each in messages if each.position <= end]
                after, looks = messages[-1].position, 0
            else:  # the last ones were deleted, or are on their way to the copy that answered
                looks += 1
                await asyncio.sleep(PAUSE)
    finally:
        await reader.close()


def _fact(message: Message) -> AnyFact | None:
    fact = decode(message.subject, message.payload)
    return None if isinstance(fact, str) else fact
