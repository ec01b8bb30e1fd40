"""Messages of a JetStream pull consumer, returned as they arrive: none waits for a batch to fill."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import nats.errors

from cloudmatch_bus.client.connection import Bus, Headers, Subscription
from cloudmatch_bus.contract import streams

BATCH = 500  # messages requested at a time
FEW = 50  # messages, at most, after which it may linger: more are a backlog
EXPIRES = 1.0  # s for which a request is open; the server answers then at the latest
GRACE = 0.1  # s for that answer to arrive
PAUSE = 0.2  # s before the next request after one that was refused


class Message(NamedTuple):
    """A message of a stream, as a consumer delivers it."""

    subject: str
    payload: bytes
    reply: str  # where its ack goes
    position: int  # stream sequence
    order: int  # of this delivery among all of the consumer: 1, 2, 3…
    pending: int  # messages that the consumer has yet to deliver
    stored: float  # s since 1970, when the stream got it
    arrived: float  # s, monotonic


def _message(subject: str, reply: str, payload: bytes) -> Message:
    # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>
    tokens = reply.split(".")
    at = 5 if len(tokens) == 9 else 7
    position, order, nanoseconds, pending = map(int, tokens[at : at + 4])
    return Message(subject, payload, reply, position, order, pending, nanoseconds / 1e9, time.monotonic())


class PullSubscription:
    """Repeated requests for the messages of one consumer of EVENTS, until `stop` is set.

    Args:
        linger: after a few messages, wait so long (s) for more, which are then returned together.
    """

    def __init__(self, bus: Bus, consumer: str, stop: asyncio.Event, linger: float = 0.0) -> None:
        self._bus = bus
        self._linger = linger
        self._stop = stop
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{streams.EVENTS}.{consumer}"
        self._request = msgspec.json.encode({"batch": BATCH, "expires": int(EXPIRES * 1e9)})
        self._inbox = bus.client.new_inbox()
        self._subscription: Subscription | None = None
        self._waiting: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.create_task(stop.wait())
        self._stopping.add_done_callback(lambda _: self._wake.set())
        self._open = 0  # messages the server may still send for the last request
        self._requested_at = 0.0
        self._answered_at = time.monotonic()
        self._refused = False  # the last request, for another reason than that there are no messages
        self._lingers = False  # a few messages were returned last

    @property
    def silence(self) -> float:
        """Seconds since the server last answered."""
        return time.monotonic() - self._answered_at

    @property
    def waiting(self) -> Sequence[Message]:
        """Messages that arrived and were not returned yet."""
        return self._waiting

    def _on_message(self, subject: str, reply: str, payload: bytes, headers: Headers) -> None:
        if headers and (status := headers.get("Status")):
            self._open = 0
            if status in ("404", "408"):  # no messages; the request has expired
                self._answered_at = time.monotonic()
            else:  # 503: no such consumer; 409: deleted, its leader moves, …
                self._refused = True
        else:
            self._answered_at = time.monotonic()
            self._open -= 1
            self._waiting.append(_message(subject, reply, payload))
        self._wake.set()

    async def messages(self) -> list[Message]:
        """Return what has arrived, as soon as there is any; nothing on `stop` or when a request expired."""
        if self._subscription is None:
            self._subscription = await self._bus.subscribe(self._inbox, self._on_message)
        if self._lingers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._linger)
        if not self._waiting and not self._stop.is_set():
            if self._refused:
                self._refused = False
                await asyncio.sleep(PAUSE)
            self._request_more()
            await self._arrival(EXPIRES + GRACE)
        self._lingers = self._linger > 0 and 0 < len(self._waiting) < FEW
        return self._take_waiting()

    def _request_more(self) -> None:
        now = time.monotonic()
        if self._open <= 0 or now > self._requested_at + EXPIRES:
            self._open, self._requested_at = BATCH, now
            self._bus.publish(self._next, self._request, self._inbox)

    async def _arrival(self, timeout: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout)

    def _take_waiting(self) -> list[Message]:
        messages = list(self._waiting)
        self._waiting.clear()
        return messages

    async def drain(self) -> list[Message]:
        """Return what still arrives for the last request: other processes would get it only after a while."""
        end = self._requested_at + EXPIRES + GRACE
        while self._open > 0 and self._bus.connected and (left := end - time.monotonic()) > 0:
            await self._arrival(left)
        return self._take_waiting()

    async def close(self) -> None:
        """End the subscription."""
        self._stopping.cancel()
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._bus.unsubscribe(self._subscription)
