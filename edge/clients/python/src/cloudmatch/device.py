"""The device that applications use: a `Conversation` and its `Connector` on asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from cloudmatch.connector import Connector
from cloudmatch.core.close_codes import NORMAL, REPLACED
from cloudmatch.core.conversation import Conversation, State
from cloudmatch.core.errors import (
    ClosedError,
    CloudMatchError,
    NotMatchedError,
    PayloadRefusedError,
    PeerLeftError,
    ReplacedError,
    UnreachableError,
)
from cloudmatch.core.events import Closed, Data, Event, Peer, PeerLeft, TokenExpires
from cloudmatch.core.outbox import Delivered, Payload, Refused, Settlement, Undelivered
from cloudmatch.core.token import Token, check
from cloudmatch.timer import Timer

E = TypeVar("E", bound=Event)

LEAVE_TIMEOUT = 2.0  # s for the server to close after `leave`


class Device:
    """A device that is matched with others and exchanges payloads with them; made by `cloudmatch.connect`.

    Use it with ``async with``. Iterating it yields the peers' payloads in order, each exactly once, over all
    matches.
    """

    def __init__(
        self,
        urls: Sequence[str],
        parameters: dict[str, str],
        position: tuple[float, float],
        *,
        token: Token | None,
        timeout: float,
        linger: float,
        leave_on_exit: bool,
    ) -> None:
        self._id = parameters["id"]
        self._timeout = timeout
        self._linger = linger
        self._leave_on_exit = leave_on_exit
        self._conversation = Conversation(*position)
        self._connector = Connector(urls, parameters, token, self._conversation, self._step)
        self._timer = Timer(self._tick)
        # resolved at every change
        self._waiters: list[asyncio.Future[None]] = []
        self._receipts: dict[Payload, asyncio.Future[None]] = {}
        # keeps concurrent sends in order
        self._send_lock = asyncio.Lock()
        self._listeners: list[Callable[[Event], None]] = []
        self._end_reason = ""  # why the last match ended

    # -- state

    @property
    def id(self) -> str:
        return self._id

    @property
    def state(self) -> State:
        """The present state; ``connecting`` also during a reconnect."""
        return self._conversation.state

    @property
    def peer(self) -> Peer | None:
        """The peer, while there is a match; also during a reconnect."""
        return self._conversation.peer

    @property
    def pending(self) -> int:
        """How many payloads were sent and are not yet delivered."""
        return len(self._conversation.outbox)

    # -- calls

    async def matched(self) -> Peer:
        """Wait for a match; return the peer."""
        await self._until(lambda: self.peer is not None)
        self._check()
        assert self.peer is not None
        return self.peer

    async def send(self, data: Data, *, receipt: bool = False) -> None:
        """Send a text (str) or binary (bytes) payload to the peer.

        Waits while too many payloads are in flight; with `receipt`, until the peer's application has taken
        this one. A lost connection only delays it.

        Raises:
            NotMatchedError: There is no peer.
            PeerLeftError: The match ended before the payload was sent or delivered.
            PayloadRefusedError: The payload is too large.
            ClosedError: The device is closed.
        """
        self._check()
        peer, conversation = self.peer, self._conversation
        if peer is None:
            raise NotMatchedError("there is no peer to send to: await matched() first")
        async with self._send_lock:
            await self._until(lambda: self.peer is not peer or not conversation.outbox.full)
            if self.peer is not peer:
                self._check()
                raise PeerLeftError(peer.id, self._end_reason)
            payload = conversation.send(data, receipt)
            self._step()
        if receipt:
            settled = self._receipts[payload] = asyncio.get_running_loop().create_future()
            try:
                await settled
            finally:
                del self._receipts[payload]

    async def receive(self) -> Data:
        """Return the next payload: str or bytes.

        Raises:
            ClosedError: The device is closed and no payload is left.
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
            if closed.code == NORMAL:
                raise StopAsyncIteration from None
            raise

    async def flush(self) -> None:
        """Wait until all payloads are delivered or the match has ended."""
        await self._until(lambda: not self.pending)

    def unmatch(self) -> None:
        """Leave the match and wait for another peer. Undelivered payloads fail."""
        self._check()
        self._end_reason = "unmatched"
        self._conversation.unmatch(self._now())
        self._step()

    def move(self, lat: float, lon: float) -> None:
        """Change the position. This affects the next match, not the present one."""
        self._check()
        self._conversation.move(lat, lon)
        self._step()

    async def leave(self) -> None:
        """Leave for good; the peer is notified at once. Undelivered payloads fail."""
        self._conversation.leave(self._now())
        self._step()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: False), LEAVE_TIMEOUT)
        self._conversation.close(NORMAL, "left")
        self._step()

    def drop_connection(self) -> None:
        """Drop the connection as a bad network would, for tests; the device then reconnects."""
        self._connector.drop_connection()

    # -- events

    def events(self) -> AsyncIterator[Event]:
        """Yield the events from now on, until the device is closed.

        Call this before ``async with`` to miss none: the first match may follow the connection at once.
        """
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.append(queue.put_nowait)
        return self._events(queue)

    async def _events(self, queue: asyncio.Queue[Event]) -> AsyncIterator[Event]:
        try:
            while True:
                event = await queue.get()
                yield event
                if isinstance(event, Closed):
                    return
        finally:
            self._listeners.remove(queue.put_nowait)

    def on(self, kind: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Call `callback` with each event of this kind; return a function that removes it."""
        loop = asyncio.get_running_loop()

        def listener(event: Event) -> None:
            if isinstance(event, kind):
                loop.call_soon(callback, event)

        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # -- lifetime

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            RefusedError: The server does not admit the device.
            UnreachableError: No server answered within the timeout.
        """
        self._connector.start()
        try:
            async with asyncio.timeout(self._timeout):
                await self._until(lambda: self.state is not State.CONNECTING)
            self._check()
        except TimeoutError:
            await self._stop()
            failure = self._connector.failure
            why = failure or "no answer"
            raise UnreachableError(f"no connection to {self._connector.edges}: {why}") from failure
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
            if self._leave_on_exit:
                await self.leave()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """Stop the timer and the connector; entering the device again resumes its session."""
        self._timer.cancel()
        await self._connector.stop()

    # -- internals

    def _step(self) -> None:
        """Dispatch the conversation's events, write its frames and set the timer."""
        for event in self._conversation.events():
            if isinstance(event, Event):
                if isinstance(event, PeerLeft):
                    self._end_reason = event.reason
                elif isinstance(event, TokenExpires):
                    self._connector.renew()
                for listener in list(self._listeners):
                    listener(event)
            else:
                self._settle(event)
        self._connector.wake()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._timer.set(self._conversation.deadline)

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

    def _tick(self) -> None:
        self._conversation.tick(self._now())
        self._step()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds or the device is closed."""
        while not condition() and not self._conversation.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _ended(self) -> CloudMatchError | None:
        closed = self._conversation.closed
        if closed is None:
            return None
        if self._connector.error is not None:
            return self._connector.error
        return (ReplacedError if closed.code == REPLACED else ClosedError)(closed.code, closed.reason)

    def _check(self) -> None:
        if (error := self._ended()) is not None:
            raise error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def connect(
    url: str | Sequence[str],
    *,
    id: str,  # noqa: A002 # its name in the protocol
    lat: float,
    lon: float,
    app: str | None = None,
    radius: float | None = None,
    tag: str | None = None,
    token: Token | None = None,
    timeout: float = 10.0,
    linger: float = 5.0,
    leave_on_exit: bool = True,
) -> Device:
    """Return a device, for use with ``async with``.

    Args:
        url: Address of the server: http, https, ws or wss. Or those of several edges, in order of preference:
            if one is full or cannot be reached, the device connects to the next.
        id: Id of the device, unique in its app; 1 to 64 characters.
        lat: Latitude in degrees.
        lon: Longitude in degrees.
        app: Devices of different apps never see each other.
        radius: Metres within which a peer may be. Default: the server's setting.
        tag: Only devices with equal tags are matched.
        token: A JWT, for servers that require one: a str, or a function, perhaps async, that returns one. It
            is asked at each connection, and when the server says that the token expires.
        timeout: Seconds allowed for the first connection.
        linger: Seconds allowed on exit for payloads to be delivered.
        leave_on_exit: Leave on exit. If false, the peer waits for the server's grace, and entering the same
            device again resumes the match.

    Raises:
        ValueError: `url` is not the URL of a server.
        TypeError: `token` is neither a str nor a function.
    """
    check(token)
    parameters = {"id": id, "app": app, "radius": None if radius is None else str(radius), "tag": tag}
    given = {name: value for name, value in parameters.items() if value is not None}
    return Device(
        [url] if isinstance(url, str) else url,
        given,
        (lat, lon),
        token=token,
        timeout=timeout,
        linger=linger,
        leave_on_exit=leave_on_exit,
    )
