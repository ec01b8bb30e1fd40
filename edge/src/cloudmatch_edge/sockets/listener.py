"""All sockets of an edge: which devices are accepted, pings, and the shutdown; each one is a `Connection`."""

import asyncio
import contextlib
import itertools
import logging
import secrets

from prometheus_client import Counter, Gauge
from websockets.datastructures import Headers
from websockets.http11 import Request

from cloudmatch_bus.process import origins
from cloudmatch_bus.process.clock import monotonic
from cloudmatch_bus.process.descriptors import Descriptors
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.settings import variable
from cloudmatch_bus.process.summary import Summary
from cloudmatch_edge.admission import bearer
from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.permit import Admitted, Permit
from cloudmatch_edge.bus.hub import Hub
from cloudmatch_edge.dialects import v1
from cloudmatch_edge.dialects.base import Dialect
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.parameters import BadParameterError, Parameters
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import client_address, pages, request_head
from cloudmatch_edge.sockets.connection import CLOSE_TIMEOUT, Connection
from cloudmatch_edge.sockets.gate import Gate
from cloudmatch_edge.sockets.idle_timeouts import IdleTimeouts
from cloudmatch_edge.sockets.pace import Pace
from cloudmatch_edge.sockets.quotas import AddressQuotas
from cloudmatch_edge.sockets.request_head import RefusedError
from cloudmatch_edge.sockets.turns import Turns
from cloudmatch_edge.sockets.writer import Writer

log = logging.getLogger("listener")

CONNECT = "/device/connect"
# s for a request to arrive, also while file descriptors run short
OPEN_TIMEOUT, HURRIED_TIMEOUT = 5.0, 1.0
SLOTS = 20  # moments in an interval of pings at which a part of the devices is pinged
NOT_READY_RETRY, FULL_RETRY = 1, 5  # s after which a refused device should try again
NO_DESCRIPTORS = pages.serialize(
    pages.unavailable(
        "edge_full", "no file descriptors are left; try again later, or another edge", FULL_RETRY
    )
)
# On shutdown: connections closed at once, at least; rounds, at most; s between two rounds
CLOSE_BATCH, CLOSE_ROUNDS, CLOSE_PAUSE = 20, 100, 0.02

_refused = Counter("cloudmatch_edge_devices_refused", "Devices refused because the edge was full")
_closed_unread = Counter(
    "cloudmatch_edge_connections_refused", "Connections closed unread because file descriptors had run out"
)
_over_quota = Counter(
    "cloudmatch_edge_devices_over_quota", "Devices refused because of a quota, by code of the error", ["code"]
)
_idle_timeout = Gauge(
    "cloudmatch_edge_suspected_idle_timeout_seconds",
    "Silence after which connections end again and again, as by the idle time-out of a proxy; 0: none",
)


class Listener:
    """All sockets of one edge; it accepts devices once `open` was called."""

    def __init__(self, settings: EdgeSettings, health: Health) -> None:
        self._max_payload = settings.max_payload
        self._origins = settings.allowed_origins
        self._path_prefix = settings.path_prefix
        self._heartbeat = settings.heartbeat
        self.patience = settings.patience
        self._slots: list[set[Connection]] = [set() for _ in range(SLOTS)]
        self._next_slot = itertools.cycle(self._slots)
        self._connections: dict[Connection, set[Connection]] = {}  # and the slot of each
        self._unflushed: list[Writer] = []  # in this turn
        self.in_turn = Turns()
        self._name = settings.own_name
        self._health = health
        self._descriptors = Descriptors()
        self._short = False  # of file descriptors: it was logged
        self._proxies = settings.proxies
        self._pace = settings.frames, settings.bytes
        self.message_timeout = settings.message_timeout
        self.gate = Gate(settings, health)
        self._quotas = AddressQuotas(settings.connections_per_address, settings.connects_per_address)
        self._refusals = Summary(log, "devices over a quota refused")
        self._idle_timeouts = IdleTimeouts()
        self._suspected = 0.0  # the last one
        _idle_timeout.set_function(lambda: self._idle_timeouts.suspected(monotonic()))
        health.set_check("descriptors", lambda: self._descriptors.short)
        self._client = pages.dev_client(settings.own_name, settings.places, settings.own_ports)
        self._hub: Hub | None = None
        self._closing = False
        # set when the last connection has ended after `close`
        self._empty = asyncio.Event()

    def flush_soon(self, writer: Writer) -> None:
        """Call `flush` of a writer by the end of this turn."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(writer)

    def _flush(self) -> None:
        writers, self._unflushed = self._unflushed, []
        for writer in writers:
            writer.flush()

    def open(self, hub: Hub) -> None:
        """Begin to accept devices."""
        self._hub = hub

    def parse(self, head: bytes, connection: Connection) -> tuple[Request, bytes] | None:
        """Return the request that `head` begins with, and what follows it; None if it is incomplete. The
        connection then counts under the address that trusted proxies name.

        Raises:
            RefusedError: it never becomes one.
        """
        address = connection.peer
        if client_address.is_proxy_header(head) and not client_address.trusts(self._proxies, address):
            name = variable(EdgeSettings, "trusted_proxies")
            raise RefusedError(
                400, "bad_request", f"{name} does not name {address}, which sends a PROXY header"
            )
        try:
            found = client_address.proxy_header(head, address)
            parsed = found and request_head.parse(found[1])
            if found is None or parsed is None:
                return None
            said = parsed[0].headers.get_all("X-Forwarded-For")
            address = client_address.forwarded(found[0], said, self._proxies)
        except client_address.MalformedError as malformed:
            raise RefusedError(400, "bad_request", str(malformed)) from None
        self._quotas.opened(connection, client_address.key(address))
        return parsed

    def respond(self, request: Request, connection: Connection) -> pages.Page | Admitted:
        """Return the page to answer a request with, or a device to accept."""
        path, _, query = request.path.partition("?")
        if path.startswith(f"{self._path_prefix}/"):
            path = path.removeprefix(self._path_prefix)
        elif path == self._path_prefix:
            return pages.redirect(f"{path}/")  # what the page refers to is relative to its own path
        if request.method == "OPTIONS":
            return pages.options(path, (CONNECT, *self._client))
        if request.method not in ("GET", "HEAD"):
            return pages.method_not_allowed(request.method)
        if path != CONNECT:
            known = ",".join(request.headers.get_all("If-None-Match"))
            return pages.answer(path, self._health, self._client, known)
        if self._origins and (origin := self._forbidden_origin(request.headers)) is not None:
            return pages.forbidden_origin(origin, variable(EdgeSettings, "origins"))
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        names = [name.strip() for name in offered.split(",")]
        if offered and v1.SUBPROTOCOL not in names:
            detail = f"none of {bearer.redacted(offered)!r} is supported"
            return pages.error(400, "unknown_subprotocol", detail)
        if too_many := self._quotas.refusal(connection, monotonic()):  # before a signature is verified
            return self._too_many(connection, "too_many_connections", *too_many)
        try:
            admitted = self.gate.admit(query, request.headers.get_all("Authorization"), names)
        except BadParameterError as bad:
            return pages.bad_parameter(bad)
        except DeniedError as denied:
            if denied.reason == "signature":  # which costs as much as it would have cost to come in
                self._quotas.connected(connection, monotonic())
            return pages.denied(denied, NOT_READY_RETRY)
        if self._hub is None or self._closing:
            detail = "the edge is not connected to the bus, or shutting down"
            return pages.unavailable("not_ready", detail, NOT_READY_RETRY)
        return self._refusal(admitted.who, connection, self._hub) or admitted

    def _refusal(self, who: Parameters, connection: Connection, hub: Hub) -> pages.Page | None:
        """Return why there is no room for a device; None if there is."""
        full = hub.full or self._descriptors.short
        if full and not hub.replaces(who):
            _refused.inc()
            return pages.unavailable("edge_full", f"{full}; try again later, or another edge", FULL_RETRY)
        if hub.app_full(who) and not hub.replaces(who):
            detail = "this app has as many devices here as it may; try again later, or another edge"
            return self._too_many(connection, "app_quota", detail, FULL_RETRY)
        if wait := hub.wait(who):
            detail = "this id has connected too often, or was taken over too often"
            return self._too_many(connection, "rate_limited", detail, wait)
        return None

    def _too_many(self, connection: Connection, code: str, detail: str, wait: float) -> pages.Page:
        _over_quota.labels(code).inc()
        self._refusals.add(f"{code}, from {client_address.shown(self._quotas.address(connection))}")
        return pages.too_many(code, detail, wait)

    def _forbidden_origin(self, headers: Headers) -> str | None:
        """Return the origin of a page that may not connect devices. What is no browser sends none."""
        found = headers.get_all("Origin")
        if not found and "Upgrade" not in headers:
            # a page of this edge that was refused asks why, by a fetch; it names its origin there only
            found = ["/".join(page.split("/", 3)[:3]) for page in headers.get_all("Referer")]
        return next((each for each in found if not origins.allows(self._origins, each)), None)

    def pace(self, permit: Permit) -> Pace | None:
        """How much of one device is read in a second; None: all."""
        frames, size = map(_lower, self._pace, (permit.rate, permit.bytes))
        return Pace(frames, size) if frames or size else None

    def frame_limits(self, *, speaks_v1: bool) -> tuple[int, int]:
        """Bytes of the largest text of a device, and of the largest fragment or binary frame."""
        return v1.frame_limits(self._max_payload) if speaks_v1 else (self._max_payload, self._max_payload)

    def join(self, admitted: Admitted, connection: Connection, *, speaks_v1: bool, waited: float) -> Device:
        """Add a device that asked `waited` seconds ago, and write its first frames."""
        who, permit = admitted
        assert self._hub is not None
        dialect: Dialect = Classic(self._name)
        token = ""
        if speaks_v1:
            token = who.resume or secrets.token_urlsafe(18)
            session = token[:8]  # names the session without giving the token away
            grace = self._hub.grace
            dialect = V1(Welcome(who.id, session, token, grace, self._max_payload, self._heartbeat))
        connection.write(dialect.connected())
        self._quotas.connected(connection, monotonic())
        resume = speaks_v1 and who.resume is not None
        stay = self.gate.stay(permit)
        return self._hub.join(who, connection, dialect, token, stay, resume=resume, waited=waited)

    def broke_off(self, silence: float) -> None:
        """Note that a connection broke off after so many seconds without a byte."""
        self._idle_timeouts.add(monotonic(), silence)
        suspected = self._idle_timeouts.suspected(monotonic())
        if suspected and not self._suspected:
            log.warning(
                "connections end after %.1f s of silence each time, as by the idle time-out of a proxy: "
                "raise that, or set %s below it",
                suspected,
                variable(EdgeSettings, "heartbeat"),
            )
        self._suspected = suspected

    def leave(self, device: Device, code: int) -> None:
        """Remove a device whose connection was closed with `code`."""
        assert self._hub is not None
        self._hub.leave(device, code)

    def opened(self, connection: Connection) -> float | bytes:
        """Add a connection; return how many seconds its request may take, or the answer that refuses it
        unread."""
        self._connections[connection] = slot = next(self._next_slot)
        slot.add(connection)
        short = self._descriptors.short
        if short and not self._short:
            log.warning("%s: devices are refused; raise the limit (ulimit -n)", short)
            self._short = True
        elif self._short and self._descriptors.plenty:
            log.info("file descriptors are free again: devices are accepted")
            self._short = False
        if short and self._descriptors.last:
            _closed_unread.inc()
            return NO_DESCRIPTORS
        proxied = client_address.trusts(self._proxies, connection.peer)  # its device is not known yet
        address = None if proxied else client_address.key(connection.peer)
        if not self._quotas.opened(connection, address):
            detail = "your address has too many connections"
            return pages.serialize(self._too_many(connection, "too_many_connections", detail, FULL_RETRY))
        return HURRIED_TIMEOUT if short else OPEN_TIMEOUT

    def closed(self, connection: Connection) -> None:
        """Remove a connection."""
        self._connections.pop(connection).discard(connection)
        self._quotas.closed(connection)
        if self._closing and not self._connections:
            self._empty.set()

    async def ping(self) -> None:
        """Ping each device at each interval, a part of them at a time, until cancelled."""
        for slot in itertools.cycle(self._slots):
            await asyncio.sleep(self._heartbeat / SLOTS)
            for connection in list(slot):
                connection.ping()

    async def close(self) -> None:
        """Close all connections in batches, lest all reconnect at once; wait until they have ended."""
        self._closing = True
        batch = max(CLOSE_BATCH, len(self._connections) // CLOSE_ROUNDS)
        for at, connection in enumerate(list(self._connections), 1):
            connection.go_away()
            if at % batch == 0:
                await asyncio.sleep(CLOSE_PAUSE)
        if self._connections:
            with contextlib.suppress(TimeoutError):  # connections that do not answer are aborted meanwhile
                await asyncio.wait_for(self._empty.wait(), CLOSE_TIMEOUT + 1)


def _lower(limit: float, other: float) -> float:
    """Return the lower of two limits, of which 0 is none."""
    return min(limit, other) if limit and other else limit or other
