"""The connection to NATS.

Messages of `Bus.subscribe` are handled synchronously: without a queue or a task per message, none can be
dropped for a slow consumer; handlers must be quick and must not raise. `transport` cuts most messages
straight from the socket. The others pass through nats-py's parser, which makes a message by the public
attribute `Client.msg_class`; ours calls the handler instead.

Private names of nats-py used here: `Client._transport`, set before connecting so that the client creates none
itself; `Subscription._id`; `Client._send_unsubscribe`; `Client._process_pong`, `_process_headers` and
`_build_message`.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence

import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Subscription
from nats.js import JetStreamContext
from prometheus_client import Counter

from cloudmatch_bus.client.errors import described
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.client.transport import FastTransport, count_unreadable, log_handler_failure, readable
from cloudmatch_bus.client.transport import Handler as Handler
from cloudmatch_bus.client.transport import Headers as Headers
from cloudmatch_bus.contract.credentials import credentials_file
from cloudmatch_bus.contract.permissions import PROBES, inbox

log = logging.getLogger("bus")

RECONNECT = 0.1, 0.3  # s between two attempts
DRAIN_TIMEOUT = 1.0  # s for the server to confirm that a subscription has ended
STRAGGLERS = 0.25  # s for which messages may still arrive after that
PERMISSIONS_VIOLATION = "permissions violation"  # in errors that the client passes on from the server
LOGGED_VIOLATIONS = 50  # different ones that are logged, at most: each may name another subject
ANONYMOUS = "-"  # in place of a name, without credentials
PENDING_LIMIT = 8 * 1024 * 1024  # bytes waiting for the socket, above which `publish` refuses messages

_errors = Counter("cloudmatch_bus_errors", "Errors reported by the NATS client", ["kind"])
_denied = Counter("cloudmatch_bus_denied", "Permissions violations reported by the server")
_refused = Counter("cloudmatch_bus_refused", "Messages not sent because the connection's buffer was full")
_reconnects = Counter("cloudmatch_bus_reconnects", "Reconnections after a lost connection")


def no_responders(headers: Headers) -> bool:
    """Whether this message is the server's answer to a request without responders."""
    return headers is not None and headers.get("Status") == "503"


class NoRespondersError(TimeoutError):
    """A request had no responders; the server reports that at once."""


class _Client(Client):
    """nats-py's client, tolerating what would otherwise cost the connection: pongs whose waiter timed out,
    and messages of which it cannot read everything."""

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            count_unreadable()
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        message: Msg
        try:
            message = super()._build_message(sid, subject, reply, data, headers)
        except UnicodeDecodeError:
            message = super()._build_message(sid, readable(subject), readable(reply), data, headers)
        return message

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


class Bus:
    """A connection to NATS that reconnects automatically. Create one with `connect`.

    Args:
        client: not connected yet.
        role, name: by which the servers know this process; the name is a token.
        fast: let a `FastTransport` be the client's transport.
    """

    def __init__(
        self, client: Client, *, fast: bool = False, role: str = "any", name: str = ANONYMOUS
    ) -> None:
        self.client = client
        self.name = name
        self.inbox = inbox(role, name)
        self.on_reconnect: list[Callable[[], Awaitable[object]]] = []
        self.on_closed: list[Callable[[], None]] = []
        # subscription id, as the server writes it → handler
        self._handlers: dict[str, Handler] = {}
        # strong references: the loop keeps only weak ones
        self._tasks: set[asyncio.Future[object]] = set()
        self._transport: FastTransport | None = None
        client.msg_class = self._message  # type: ignore[assignment]  # any callable of its signature will do
        if fast:
            self._transport = client._transport = FastTransport(self._handlers, PENDING_LIMIT)

    def _message(
        self, subject: str, reply: str, data: bytes, headers: Headers, _client: Client, _sid: int
    ) -> Msg | None:
        handler = self._handlers.get(str(_sid))
        if handler is None:
            return Msg(_client=_client, subject=subject, reply=reply, data=data, headers=headers, _sid=_sid)
        try:
            handler(subject, reply, data, headers)
        except Exception:  # noqa: BLE001  # logged and counted
            log_handler_failure(subject)
        return None

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return bool(self.client.is_connected)

    def health(self) -> str | None:
        """Return why the bus cannot be used, or None."""
        return None if self.connected else "not connected to NATS"

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Headers = None) -> bool:
        """Send a message without waiting; False if the buffer is full.

        While disconnected, messages are buffered up to a limit.
        """
        client = self.client
        pending = client.pending_data_size
        # What the client has buffered goes first: it may be the subscription that this message is for.
        if not pending and self._transport is not None and client.is_connected:
            protocol = self._transport.protocol
            if protocol is None or protocol.full or len(payload) > client.max_payload:
                _refused.inc()
                return False
            protocol.publish(subject, payload, reply, headers)
            return True
        if pending > PENDING_LIMIT or not self._buffer(subject, payload, reply, headers):
            _refused.inc()
            return False
        return True

    def _buffer(self, subject: str, payload: bytes, reply: str, headers: Headers) -> bool:
        """Let the client send or buffer a message; False if it refuses it."""
        # Below the limit the client's publish never suspends, so one step completes it.
        step = self.client.publish(subject, payload, reply, headers)
        try:
            step.send(None)
        except StopIteration:
            return True
        except RuntimeError:  # of uvloop: the socket is closed and the client has yet to notice
            return True  # the client has buffered it
        except nats.errors.Error:
            return False
        step.close()
        return False

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        """Call `handler(subject, reply, payload, headers)` for each message, synchronously."""

        async def never(_: Msg) -> None:
            raise AssertionError("messages of this subscription never reach the client's queue")

        subscription = await self.client.subscribe(subject, queue, cb=never)
        self._handlers[str(subscription._id)] = handler
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. If the connection is closed it has ended already."""
        self._handlers.pop(str(subscription._id), None)
        with contextlib.suppress(nats.errors.ConnectionClosedError):
            await subscription.unsubscribe()

    async def drain(self, *subscriptions: Subscription) -> None:
        """End subscriptions after handling everything the server has sent to them.

        While disconnected none is ended: all are restored by the reconnection.
        """
        await asyncio.gather(*map(self._drain, subscriptions))

    async def _drain(self, subscription: Subscription) -> None:
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            # nats-py's own drain stops receiving once the server has confirmed. By then the server may still
            # be routing what it had read from another client.
            await self.client._send_unsubscribe(subscription._id)
            await self.client.flush(timeout=DRAIN_TIMEOUT)  # type: ignore[arg-type]  # annotated int
            await asyncio.sleep(STRAGGLERS)
            await self.unsubscribe(subscription)

    async def request(
        self, subject: str, payload: bytes, timeout: float = 2.0, headers: Headers = None
    ) -> bytes:
        """Send a request and return the payload of its reply.

        Raises:
            NoRespondersError: nobody is subscribed there (also a `TimeoutError`).
            TimeoutError: no reply within `timeout` seconds, or not connected.
        """
        try:
            return bytes((await self.client.request(subject, payload, timeout=timeout, headers=headers)).data)
        except nats.errors.NoRespondersError as error:
            raise NoRespondersError(f"no reply on {subject}: no responders") from error
        except nats.errors.Error as error:
            raise TimeoutError(f"no reply on {subject}: {described(error)}") from error

    async def probe(self, subject: str, timeout: float) -> bytes:
        """Send an empty request whose answer comes to an inbox of its own; return the answer's payload.

        Edges may publish to such inboxes only, and learn from one nothing about the next.

        Raises:
            NoRespondersError, TimeoutError: as `request`.
        """
        answer = asyncio.get_running_loop().create_future()

        def on_answer(_: str, __: str, payload: bytes, headers: Headers) -> None:
            if not answer.done():
                answer.set_result(None if no_responders(headers) else payload)

        reply = f"{self.inbox}.{PROBES}.{secrets.token_hex(12)}"
        subscription = await self.subscribe(reply, on_answer)
        try:
            self.publish(subject, b"", reply)
            payload: bytes | None = await asyncio.wait_for(answer, timeout)
        finally:
            await self.unsubscribe(subscription)
        if payload is None:
            raise NoRespondersError(f"no reply on {subject}: no responders")
        return payload

    def jetstream(self) -> JetStreamContext:
        """Return a JetStream context of this connection."""
        return self.client.jetstream(timeout=5)

    def spawn(self, work: Awaitable[object]) -> None:
        """Run `work` in a task of this connection."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_for_tasks(self, timeout: float = 2.0) -> None:
        """Wait until all tasks of `spawn` have ended, or for `timeout` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def close(self) -> None:
        """Send what is buffered and close."""
        self.on_closed.clear()
        if self.client.is_closed:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # not connected: nothing more to be done
            await self.client.flush(timeout=1)
        with contextlib.suppress(OSError, RuntimeError):  # something is waiting for a closed socket
            await self.client.close()


class _ErrorLog:
    """Counts the client's errors; logs each kind of violation once, and repeated errors once in a row."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = ", ".join(servers)
        self._last = ""
        self._violations: set[str] = set()

    async def on_error(self, error: Exception) -> None:
        """Handle an error; called inside the client's read loop."""
        _errors.labels(type(error).__name__).inc()
        if PERMISSIONS_VIOLATION in str(error):
            _denied.inc()
            if str(error) not in self._violations and len(self._violations) < LOGGED_VIOLATIONS:
                self._violations.add(str(error))
                log.error("permission denied by NATS: %s", error)
        elif (text := f"{type(error).__name__}: {error}") != self._last:
            self._last = text
            log.warning("NATS at %s: %s", self._servers, text)

    def reset(self) -> None:
        """Log the next error even if it repeats the last."""
        self._last = ""


async def connect(settings: NatsSettings, role: str) -> Bus:
    """Connect, however long it takes until a server is there; errors meanwhile are logged.

    Args:
        role: of this process (`permissions.ROLES`); NATS' monitoring shows it as the connection's name.

    Raises:
        SettingsError: a file named by the settings cannot be used.
    """
    client = _Client()
    errors = _ErrorLog(settings.servers)
    websocket = any(server.startswith("ws") for server in settings.servers)
    credentials = settings.credentials()
    name = credentials.name if credentials else ANONYMOUS
    bus = Bus(client, fast=settings.lane and not websocket, role=role, name=name)

    async def on_reconnected() -> None:
        errors.reset()
        _reconnects.inc()
        log.info("reconnected to NATS")
        for callback in bus.on_reconnect:
            bus.spawn(callback())

    async def on_closed() -> None:
        for callback in bus.on_closed:
            callback()

    async def on_lame_duck() -> None:
        await client.force_reconnect()

    await client.connect(
        settings.servers,
        name=role,
        inbox_prefix=bus.inbox,
        user_credentials=RawCredentials(credentials_file(credentials.jwt, credentials.seed))
        if credentials
        else None,
        tls=settings.tls(),
        error_cb=errors.on_error,
        reconnected_cb=on_reconnected,
        closed_cb=on_closed,
        lame_duck_mode_cb=on_lame_duck,
        max_reconnect_attempts=-1,
        # Different in each process, lest all come back at the same moments.
        reconnect_time_wait=random.uniform(*RECONNECT),  # type: ignore[arg-type]  # noqa: S311  # annotated int, only ever slept for
        connect_timeout=2,
        ping_interval=5,
        max_outstanding_pings=2,
        pending_size=PENDING_LIMIT,
        # Subjects come from `subjects`, whose tokens hold no space, line end or wildcard.
        skip_subject_validation=True,
    )
    return bus
