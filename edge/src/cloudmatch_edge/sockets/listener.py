"""The edge's sockets, all of them: who is let in, heartbeats, letting go; each one is a `Connection`."""

import asyncio
import contextlib
import secrets

from websockets.http11 import Request
from websockets.typing import Origin

from cloudmatch_bus.process.health import Health
from cloudmatch_edge.bus.hub import Relay
from cloudmatch_edge.dialects import v1
from cloudmatch_edge.dialects.base import Dialect
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.parameters import BadParameterError, Parameters, parse
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import pages
from cloudmatch_edge.sockets.connection import CLOSE_TIMEOUT, Connection

CONNECT = "/device/connect"
HEARTBEAT = 20.0  # s between pings; a device silent for one whole interval is gone
SHARE, SHARES, SHARE_PAUSE = 20, 100, 0.02  # let go at once, at least; turns, at most; s between two


class Listener:
    """All sockets of one edge."""

    def __init__(self, settings: EdgeSettings, health: Health) -> None:
        self._max_payload = settings.max_payload
        self.origins = [Origin(o) for o in settings.origins.split(",") if o] or None
        self._connections: set[Connection] = set()
        self._unflushed: list[Connection] = []  # this turn
        self._name = settings.own_name
        self._health = health
        self._client = pages.dev_client(settings.own_name, settings.places)
        self._relay: Relay | None = None
        self._closing = False
        # set when the last connection has gone after `close`
        self._empty = asyncio.Event()

    def flush_soon(self, connection: Connection) -> None:
        """Let a connection write by the end of this turn."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        connections, self._unflushed = self._unflushed, []
        for connection in connections:
            connection.flush()

    def open(self, relay: Relay) -> None:
        """Let devices in."""
        self._relay = relay

    def page(self, request: Request) -> pages.Page | Parameters:
        """Give the answer to a request, or the parameters of a device that is to be let in."""
        path, _, query = request.path.partition("?")
        if path != CONNECT:
            known = ",".join(request.headers.get_all("If-None-Match"))
            return pages.answer(path, self._health, self._client, known)
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        if offered and v1.SUBPROTOCOL not in map(str.strip, offered.split(",")):
            return pages.error(400, "unknown_subprotocol", f"none of {offered!r} is spoken here")
        try:
            who = parse(query)
        except BadParameterError as bad:
            return pages.bad_parameter(bad)
        if self._relay is None or self._closing:
            return pages.error(503, "not_ready", "the edge is not connected to the bus, or going away")
        return who

    def frame_limit(self, *, speaks_v1: bool) -> int:
        """Give how many bytes a message may have."""
        return v1.frame_limit(self._max_payload) if speaks_v1 else self._max_payload

    def joined(self, who: Parameters, connection: Connection, *, speaks_v1: bool) -> Device:
        """Take a device in and greet it."""
        assert self._relay is not None
        dialect: Dialect = Classic(self._name)
        token = ""
        if speaks_v1:
            token = who.resume or secrets.token_urlsafe(18)
            session = token[:8]  # names it, and does not give it away
            dialect = V1(Welcome(who.id, session, token, self._relay.grace, self._max_payload))
        connection.send(dialect.connected())
        return self._relay.join(who, connection, dialect, token, resume=speaks_v1 and who.resume is not None)

    def left(self, device: Device, code: int) -> None:
        """Let a device go."""
        assert self._relay is not None
        self._relay.leave(device, code)

    def made(self, connection: Connection) -> None:
        """Know a connection."""
        self._connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """Know it no more."""
        self._connections.discard(connection)
        if self._closing and not self._connections:
            self._empty.set()

    async def heartbeats(self) -> None:
        """Ping every device, all in one sweep, until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            for connection in list(self._connections):
                connection.heartbeat()

    async def close(self) -> None:
        """Let all go, a share at a time, lest all come to other edges at once; wait until they are gone."""
        self._closing = True
        share = max(SHARE, len(self._connections) // SHARES)
        for at, connection in enumerate(list(self._connections), 1):
            connection.go_away()
            if at % share == 0:
                await asyncio.sleep(SHARE_PAUSE)
        if self._connections:
            with contextlib.suppress(TimeoutError):  # those that do not answer are aborted meanwhile
                await asyncio.wait_for(self._empty.wait(), CLOSE_TIMEOUT + 1)
