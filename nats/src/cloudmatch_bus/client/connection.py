"""The connection to NATS: the one place that talks to nats-py's client.

Messages of `subscribe` are handled synchronously: there is no queue and no task per message, so nothing can
be dropped for a slow consumer; a handler must be quick and must not raise. Most are cut from the socket by
`lane`. The others come through the client's parser: `Client.msg_class` is the public attribute through
which it makes a message, and ours calls the handler instead.

What of nats-py's client is used that is not public: `_transport`, which is set before it connects so that it
makes none itself; the id of a `Subscription`; `_send_unsubscribe`, `_process_pong`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Subscription
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from prometheus_client import Counter

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.client.transport import FastTransport, failed
from cloudmatch_bus.client.transport import Handler as Handler
from cloudmatch_bus.client.transport import Headers as Headers
from cloudmatch_bus.contract.permissions import inbox

log = logging.getLogger("bus")

DRAIN = 1.0  # s for the server's word that a subscription has ended
STRAGGLERS = 0.25  # s for which messages still come after that word
PERMISSIONS_VIOLATION = "permissions violation"  # as the client hands on what the server says
DENIALS = 50  # different ones that are logged: each may name a subject of its own
PENDING_LIMIT = 8 * 1024 * 1024  # bytes that wait for the socket, at most; beyond it publish refuses

_errors = Counter("cloudmatch_bus_errors", "Errors that the NATS client reported", ["kind"])
_denied = Counter("cloudmatch_bus_denied", "Times the server said that this user may not do what it tried")
_refused = Counter("cloudmatch_bus_refused", "Messages that could not be handed to the NATS client")
_reconnects = Counter("cloudmatch_bus_reconnects", "Connections made anew after a loss")


def no_responders(headers: Headers) -> bool:
    """Whether this message says that nobody listens where its request went."""
    return headers is not None and headers.get("Status") == "503"


class NoRespondersError(TimeoutError):
    """A request found nobody who listens: the server says so at once."""


class _Client(Client):
    """nats-py's client, but a pong may come after who waited for it has given up: there that costs the
    connection."""

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


class Bus:
    """A connection to NATS that comes back by itself. Make one with `connect`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.on_reconnect: list[Callable[[], Awaitable[object]]] = []
        self.on_closed: list[Callable[[], None]] = []
        # id of a subscription, as the server writes it → its handler
        self._handlers: dict[str, Handler] = {}
        self._transport: FastTransport | None = None
        # strong references: the loop keeps only weak ones
        self._tasks: set[asyncio.Future[object]] = set()
        client.msg_class = self._message  # type: ignore[assignment]  # any callable with its signature will do

    def _message(
        self, subject: str, reply: str, data: bytes, headers: Headers, _client: Client, _sid: int
    ) -> Msg | None:
        handler = self._handlers.get(str(_sid))
        if handler is None:
            return Msg(_client=_client, subject=subject, reply=reply, data=data, headers=headers, _sid=_sid)
        try:
            handler(subject, reply, data, headers)
        except Exception:  # noqa: BLE001  # it is told
            failed(subject)
        return None

    def use_fast_transport(self) -> None:
        """Let a `FastTransport` be the client's transport. Call it before the client connects."""
        self._transport = FastTransport(self._handlers, PENDING_LIMIT)
        self.client._transport = self._transport

    @property
    def connected(self) -> bool:
        """Whether the connection stands at this moment."""
        return bool(self.client.is_connected)

    def health(self) -> str | None:
        """Give the reason why the bus cannot be used, or None."""
        return None if self.connected else "not connected to NATS"

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Headers = None) -> bool:
        """Hand a message to the client, without waiting; False when it was refused.

        While the connection is away, messages wait in the client up to a limit.
        """
        client = self.client
        pending = client.pending_data_size
        # What waits in the client goes first: it may be the subscription that this message is for.
        if not pending and self._transport is not None and client.is_connected:
            protocol = self._transport.protocol
            if protocol is None or protocol.full or len(payload) > client.max_payload:
                _refused.inc()
                return False
            protocol.publish(subject, payload, reply, headers)
            return True
        if pending > PENDING_LIMIT:
            _refused.inc()
            return False
        # Below the limit the client's publish never suspends, so one step finishes it.
        step = client.publish(subject, payload, reply, headers)
        try:
            step.send(None)
        except StopIteration:
            return True
        except RuntimeError:  # by uvloop: the socket has ended and the client has yet to notice
            return True  # it waits in the client
        except NatsError:
            _refused.inc()
            return False
        step.close()
        _refused.inc()
        return False

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        """Call `handler(subject, reply, payload, headers)` for each message, inside the parser."""

        async def never(_: Msg) -> None:
            raise AssertionError("messages of this subscription are handled in the parser")

        subscription = await self.client.subscribe(subject, queue, cb=never)
        self._handlers[str(subscription._id)] = handler
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription of `subscribe`; it has ended where the connection is closed."""
        self._handlers.pop(str(subscription._id), None)
        with contextlib.suppress(ConnectionClosedError):
            await subscription.unsubscribe()

    async def drain(self, *subscriptions: Subscription) -> None:
        """End subscriptions of `subscribe`, but handle what the server has sent by then.

        While the connection is away nothing is ended: after it they stand as before.
        """

        async def end(subscription: Subscription) -> None:
            with contextlib.suppress(NatsError, TimeoutError):
                # nats-py's own drain hears nothing more once the server has answered. The server may still
                # be handing out what it had read from another client by then.
                await self.client._send_unsubscribe(subscription._id)
                await self.client.flush(timeout=DRAIN)  # type: ignore[arg-type]  # annotated int
                await asyncio.sleep(STRAGGLERS)
                await self.unsubscribe(subscription)

        await asyncio.gather(*map(end, subscriptions))

    async def request(
        self, subject: str, payload: bytes, timeout: float = 2.0, headers: Headers = None
    ) -> bytes:
        """Ask and wait for the answer.

        Raises:
            NoRespondersError: nobody listens (a `TimeoutError`, too).
            TimeoutError: nobody answered in `timeout` seconds, or the connection is away.
        """
        try:
            return bytes((await self.client.request(subject, payload, timeout=timeout, headers=headers)).data)
        except errors.NoRespondersError as error:
            raise NoRespondersError(f"no answer on {subject}: nobody listens") from error
        except NatsError as error:
            raise TimeoutError(f"no answer on {subject}: {error!r}") from error

    def jetstream(self) -> JetStreamContext:
        """A JetStream context of this connection."""
        return self.client.jetstream(timeout=5)

    def spawn(self, work: Awaitable[object]) -> None:
        """Run `work` in a task that is kept until it ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_for_tasks(self, timeout: float = 2.0) -> None:
        """Wait until the tasks of `spawn` have ended, `timeout` seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def close(self) -> None:
        """Send what waits and close."""
        self.on_closed.clear()
        if self.client.is_closed:
            return
        with contextlib.suppress(NatsError, TimeoutError):  # away: nothing more can be done
            await self.client.flush(timeout=1)
        with contextlib.suppress(OSError, RuntimeError):  # something waits for a socket that is gone
            await self.client.close()


async def connect(settings: NatsSettings, name: str) -> Bus:
    """Connect, however long it takes for a server to be there; log while it is not.

    Args:
        name: the connection's name, as NATS monitoring shows it; the service's.

    Raises:
        SettingsError: a file that the settings name cannot be used.
    """
    client = _Client()
    bus = Bus(client)
    if settings.lane and not any(server.startswith("ws") for server in settings.servers):
        bus.use_fast_transport()
    reported = ""
    # what the server said that this user may not do, as far as it was logged
    denied: set[str] = set()

    async def on_error(error: Exception) -> None:
        # Runs inside the read loop: count, and say a thing once, no more.
        nonlocal reported
        _errors.labels(type(error).__name__).inc()
        if PERMISSIONS_VIOLATION in str(error):
            _denied.inc()
            if str(error) not in denied and len(denied) < DENIALS:
                denied.add(str(error))
                log.error("this user may not do that: %s", error)
        elif (text := f"{type(error).__name__}: {error}") != reported:
            reported = text
            log.warning("NATS at %s: %s", ", ".join(settings.servers), text)

    async def on_reconnected() -> None:
        nonlocal reported
        reported = ""
        _reconnects.inc()
        log.info("connected to NATS again")
        for callback in bus.on_reconnect:
            bus.spawn(callback())

    async def on_closed() -> None:
        for callback in bus.on_closed:
            callback()

    async def on_lame_duck() -> None:
        await client.force_reconnect()

    await client.connect(
        settings.servers,
        name=name,
        inbox_prefix=inbox(name),
        nkeys_seed_str=settings.seed(),
        tls=settings.tls(),
        error_cb=on_error,
        reconnected_cb=on_reconnected,
        closed_cb=on_closed,
        lame_duck_mode_cb=on_lame_duck,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,  # type: ignore[arg-type]  # annotated int, only ever slept for
        connect_timeout=2,
        ping_interval=5,
        max_outstanding_pings=2,
        pending_size=PENDING_LIMIT,
        # Subjects come from `subjects`, whose tokens hold no space, line end or wildcard.
        skip_subject_validation=True,
    )
    return bus
