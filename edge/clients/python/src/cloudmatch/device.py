"""A device on asyncio: what an application calls and awaits, around a `Conversation` and its `Line`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self, TypeVar

from cloudmatch.connector import Line
from cloudmatch.core.conversation import LEFT, Conversation, State
from cloudmatch.core.errors import (
    ClosedError,
    CloudMatchError,
    NotMatchedError,
    PayloadRefusedError,
    PeerLeftError,
    ReplacedError,
    UnreachableError,
)
from cloudmatch.core.events import Closed, Data, Event, Peer, PeerLeft
from cloudmatch.core.outbox import Delivered, Payload, Refused, Settlement, Undelivered

E = TypeVar("E", bound=Event)

REPLACED = 4001  # close code
LEAVE_TIMEOUT = 2.0  # s for the server to close after `leave`


class Device:
    """A device that is matched with others and exchanges payloads; made by `cloudmatch.connect`.

    Use it with ``async with``. Iterate it for the peers' payloads: they come in order, each once; those of
    the next match follow those of the last.
    """

    def __init__(
        self,
        url: str,
        who: dict[str, str],
        position: tuple[float, float],
        *,
        token: str | None,
        timeout: float,
        linger: float,
        stay: bool,
    ) -> None:
        self._id = who["id"]
        self._timeout = timeout
        self._linger = linger
        self._stay = stay
        self._conversation = Conversation(*position)
        self._line = Line(url, who, token, self._conversation, self._step)
        # uvloop gives a handle without time for what is due at once
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        # of those who wait for any change
        self._waiters: list[asyncio.Future[None]] = []
        self._receipts: dict[Payload, asyncio.Future[None]] = {}
        # whose turn it is to send
        self._turn = asyncio.Lock()
        self._listeners: list[Callable[[Event], None]] = []
        self._parted = ""  # why the last match ended

    # -- what it is

    @property
    def id(self) -> str:
        return self._id

    @property
    def state(self) -> State:
        """Where it is; ``connecting`` also while a lost connection comes back."""
        return self._conversation.state

    @property
    def peer(self) -> Peer | None:
        """The peer, while there is a match; also while a connection is lost and comes back."""
        return self._conversation.peer

    @property
    def pending(self) -> int:
        """Payloads sent and not yet in the peer's hands."""
        return len(self._conversation.outbox)

    # -- what it does

    async def matched(self) -> Peer:
        """Give the peer as soon as there is one."""
        await self._until(lambda: self.peer is not None)
        self._check()
        assert self.peer is not None
        return self.peer

    async def send(self, data: Data, *, receipt: bool = False) -> None:
        """Send a text (str) or binary (bytes) payload to the peer.

        Waits while too much is under way, and with `receipt` until the peer's application has taken the
        payload. A lost connection makes it take longer, no more.

        Raises:
            NotMatchedError: there is no peer.
            PeerLeftError: the match ended before the payload was sent, or before it was delivered.
            PayloadRefusedError: it is too large.
            ClosedError: the device is closed.
        """
        self._check()
        peer, conversation = self.peer, self._conversation
        if peer is None:
            raise NotMatchedError("there is no peer to send to: wait for matched()")
        async with self._turn:
            await self._until(lambda: self.peer is not peer or not conversation.outbox.full)
            if self.peer is not peer:
                self._check()
                raise PeerLeftError(peer.id, self._parted)
            payload = conversation.send(data, receipt)
            self._step()
        if receipt:
            settled = self._receipts[payload] = asyncio.get_running_loop().create_future()
            try:
                await settled
            finally:
                del self._receipts[payload]

    async def receive(self) -> Data:
        """Give the next payload: a str or bytes.

        Raises:
            ClosedError: the device is closed, and all that came has been taken.
        """
        inbox = self._conversation.inbox
        await self._until(lambda: len(inbox) > 0)
        if not inbox:
            self._check()
        data = self._conversation.take(self._now())
        self._step()
        return data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Data:
        try:
            return await self.receive()
        except ClosedError as closed:
            if closed.code == LEFT:
                raise StopAsyncIteration from None
            raise

    async def flush(self) -> None:
        """Return once all that was sent is in the peer's hands, or the match is over."""
        await self._until(lambda: not self.pending)

    def unmatch(self) -> None:
        """Leave the match and wait for another peer. What was not delivered fails."""
        self._check()
        self._parted = "unmatched"
        self._conversation.unmatch(self._now())
        self._step()

    def move(self, lat: float, lon: float) -> None:
        """Be elsewhere: changes whom the device can be matched with next, not the present match."""
        self._check()
        self._conversation.move(lat, lon)
        self._step()

    async def leave(self) -> None:
        """Leave for good; the peer hears it at once. What was not delivered fails."""
        self._conversation.leave(self._now())
        self._step()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: False), LEAVE_TIMEOUT)
        self._conversation.close(LEFT, "left")
        self._step()

    def cut(self) -> None:
        """Break the connection as a bad network would, to see what happens; it comes back by itself."""
        self._line.cut()

    # -- what it tells

    def events(self) -> AsyncIterator[Event]:
        """Give what happens from now on, until the device is closed.

        Call it before ``async with`` to miss nothing: the first match may be made as soon as it is connected.
        """
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.append(queue.put_nowait)
        return self._told(queue)

    async def _told(self, queue: asyncio.Queue[Event]) -> AsyncIterator[Event]:
        try:
            while True:
                event = await queue.get()
                yield event
                if isinstance(event, Closed):
                    return
        finally:
            self._listeners.remove(queue.put_nowait)

    def on(self, kind: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Call `callback` with each event of this kind; give a function that ends it."""
        loop = asyncio.get_running_loop()

        def told(event: Event) -> None:
            if isinstance(event, kind):
                loop.call_soon(callback, event)

        self._listeners.append(told)
        return lambda: self._listeners.remove(told)

    # -- its life

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            RefusedError: the server does not let the device in.
            UnreachableError: no server answered within the timeout.
        """
        self._line.start()
        try:
            async with asyncio.timeout(self._timeout):
                await self._until(lambda: self.state is not State.CONNECTING)
            self._check()
        except TimeoutError:
            await self._stop()
            failure = self._line.failure
            why = failure or "it does not answer"
            raise UnreachableError(f"no connection to {self._line.url}: {why}") from failure
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.flush(), self._linger)
            if not self._stay:
                await self.leave()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """End all that runs; the device can be entered again and goes on where it stopped."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._line.stop()

    # -- between all these

    def _step(self) -> None:
        """Pass on what the conversation has to say, and set the clock for it."""
        for event in self._conversation.events():
            if isinstance(event, Event):
                if isinstance(event, PeerLeft):
                    self._parted = event.reason
                for listener in list(self._listeners):
                    listener(event)
            else:
                self._settle(event)
        self._line.wake()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._set_timer()

    def _settle(self, settlement: Settlement) -> None:
        receipt = self._receipts.get(settlement.payload)
        if receipt is None or receipt.done():
            return
        match settlement:
            case Delivered():
                receipt.set_result(None)
            case Refused(_, code, detail):
                receipt.set_exception(PayloadRefusedError(code, detail))
            case Undelivered(_, peer, reason):
                receipt.set_exception(self._ended() or PeerLeftError(peer, reason))

    def _set_timer(self) -> None:
        deadline = self._conversation.deadline
        if self._timer is not None:
            if deadline is not None and self._timer_at <= deadline:
                return  # it looks again then
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)
            self._timer_at = deadline

    def _tick(self) -> None:
        self._timer = None
        self._conversation.tick(self._now())
        self._step()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds or the device is closed."""
        while not condition() and not self._conversation.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _ended(self) -> CloudMatchError | None:
        closed = self._conversation.closed
        if closed is None:
            return None
        if self._line.error is not None:
            return self._line.error
        return (ReplacedError if closed.code == REPLACED else ClosedError)(closed.code, closed.reason)

    def _check(self) -> None:
        if (error := self._ended()) is not None:
            raise error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def connect(
    url: str,
    *,
    id: str,  # noqa: A002 # its name in the protocol
    lat: float,
    lon: float,
    app: str | None = None,
    radius: float | None = None,
    tag: str | None = None,
    token: str | None = None,
    timeout: float = 10.0,
    linger: float = 5.0,
    stay: bool = False,
) -> Device:
    """Make a device, to be used with ``async with``.

    Args:
        url: of the server: http, https, ws or wss.
        id: of the device, unique in its app; 1 to 64 characters.
        lat: latitude, degrees.
        lon: longitude, degrees.
        app: devices of different apps never see each other.
        radius: metres within which a peer may be. Default: the server's rule.
        tag: only devices with the same tag are matched.
        token: for servers that demand one (a JWT).
        timeout: seconds for the first connection.
        linger: seconds at the end for what was sent to be delivered.
        stay: do not leave at the end: the peer waits as long as the server's grace, and the same device,
            entered again, goes on.

    Raises:
        ValueError: `url` is not the URL of a server.
    """
    who = {"id": id, "app": app, "radius": None if radius is None else str(radius), "tag": tag}
    given = {name: value for name, value in who.items() if value is not None}
    return Device(url, given, (lat, lon), token=token, timeout=timeout, linger=linger, stay=stay)
