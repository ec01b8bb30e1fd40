"""Messages of a JetStream pull consumer as they come: the first ends the waiting, none waits for company."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import streams

BATCH = 500  # messages asked for at a time
EXPIRES = 1.0  # s a request stands at the server; it answers then at the latest
PAUSE = 0.2  # s before the next request when the server refused one


class Message(NamedTuple):
    """A message of a stream, as a consumer delivers it."""

    subject: str
    payload: bytes
    reply: str  # where its ack goes
    position: int  # stream sequence
    order: int  # of this delivery, among all of the consumer: 1, 2, 3…
    pending: int  # messages that the consumer has not delivered yet
    arrived: float  # by the monotonic clock, s


def _message(subject: str, reply: str, payload: bytes) -> Message:
    # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>
    tokens = reply.split(".")
    at = 5 if len(tokens) == 9 else 7
    position, order, pending = int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 3])
    return Message(subject, payload, reply, position, order, pending, time.monotonic())


class PullSubscription:
    """A standing request for the messages of one consumer of EVENTS."""

    def __init__(self, bus: Bus, consumer: str, stop: asyncio.Event) -> None:
        self._bus = bus
        self._stop = stop
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{streams.EVENTS}.{consumer}"
        self._request = msgspec.json.encode({"batch": BATCH, "expires": int(EXPIRES * 1e9)})
        self._inbox = bus.client.new_inbox()
        self._subscription: Subscription | None = None
        self._waiting: deque[Message] = deque()
        self._some = asyncio.Event()
        self._stopping = asyncio.create_task(stop.wait())
        self._stopping.add_done_callback(lambda _: self._some.set())
        self._open = 0  # messages the server may still send for the last request
        self._asked = 0.0  # when the last request was made
        self.heard = time.monotonic()  # when the server last answered
        self._refused = False  # the last request, for a reason other than that nothing was there

    @property
    def silent(self) -> float:
        """Seconds since the server last answered."""
        return time.monotonic() - self.heard

    def _arrived(self, subject: str, reply: str, payload: bytes, headers: Headers) -> None:
        if headers and (status := headers.get("Status")):
            self._open = 0
            if status in ("404", "408"):  # nothing there; the request has expired
                self.heard = time.monotonic()
            else:  # 503: no such consumer; 409: deleted, its leader moves, …
                self._refused = True
        else:
            self.heard = time.monotonic()
            self._open -= 1
            self._waiting.append(_message(subject, reply, payload))
        self._some.set()

    @property
    def waiting(self) -> Sequence[Message]:
        """What has come and was not given yet."""
        return self._waiting

    async def messages(self) -> list[Message]:
        """Give what has come, as soon as there is any; nothing at `stop` or when a request ended so."""
        if self._subscription is None:
            self._subscription = await self._bus.subscribe(self._inbox, self._arrived)
        if not self._waiting and not self._stop.is_set():
            if self._refused:
                self._refused = False
                await asyncio.sleep(PAUSE)
            now = time.monotonic()
            if self._open <= 0 or now > self._asked + EXPIRES:
                self._open, self._asked = BATCH, now
                self._bus.publish(self._next, self._request, self._inbox)
            self._some.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), EXPIRES + 0.1)
        return self.rest()

    def rest(self) -> list[Message]:
        """Give what has come and was not given yet."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def finish(self) -> list[Message]:
        """Give what may still come for the last request: a message sent to nobody is lost for a while."""
        end = self._asked + EXPIRES + 0.1
        while self._open > 0 and self._bus.connected and (left := end - time.monotonic()) > 0:
            self._some.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), left)
        return self.rest()

    async def close(self) -> None:
        """End the subscription."""
        self._stopping.cancel()
        if self._subscription is not None:
            with contextlib.suppress(NatsError):
                await self._bus.unsubscribe(self._subscription)
