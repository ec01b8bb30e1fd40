"""The edge's sockets: handshake, frames in, frames out. The only module that knows websockets."""

import asyncio
import http
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin

from cloudmatch_bus.facts import FactPublisher
from cloudmatch_bus.frames import Frame
from cloudmatch_bus.health import Health
from cloudmatch_bus.listening import listen, ready_at
from cloudmatch_bus.provision import session
from cloudmatch_bus.service import Environment
from cloudmatch_bus.settings import NatsSettings
from cloudmatch_edge import classic, pages
from cloudmatch_edge.device import Device
from cloudmatch_edge.parameters import BadParameterError, Parameters, parse
from cloudmatch_edge.relay import Relay
from cloudmatch_edge.settings import EdgeSettings

log = logging.getLogger("gateway")

CONNECT = "/device/connect"
GOING_AWAY = 1001
HIGH_WATER = 64 * 1024  # bytes in a socket's write buffer before its peer is slowed down
CLOSE_TIMEOUT = 1.0  # s for a device to answer a close
DRAIN = 1.5  # s for match-engine to hear of all who left


class Connection(ServerConnection):
    """A socket that tells its device when the write buffer fills and when it drains."""

    who: Parameters
    device: Device | None = None

    def pause_writing(self) -> None:
        """The write buffer is over `HIGH_WATER`."""
        super().pause_writing()
        if self.device is not None:
            self.device.clog()

    def resume_writing(self) -> None:
        """The write buffer has drained."""
        super().resume_writing()
        if self.device is not None:
            self.device.unclog()


class DeviceSocket:
    """What a device sees of its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closing: asyncio.Task[None] | None = None

    def send(self, frame: Frame) -> None:
        """Write a frame; nothing happens once the connection closes."""
        broadcast((self._connection,), frame.data, text=frame.text)

    def end(self, code: int, reason: str) -> None:
        """Begin to close, once."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._connection.close(code, reason))


class Gateway:
    """All sockets of one edge."""

    def __init__(self, settings: EdgeSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._client_page = pages.dev_client()
        self._relay: Relay | None = None

    def open(self, relay: Relay) -> None:
        """Let devices in."""
        self._relay = relay

    async def listen(self, sock: socket.socket) -> Server:
        """Serve HTTP and WebSocket on a listening socket."""
        origins = [Origin(o) for o in self._settings.origins.split(",") if o]
        return await serve(
            self._connected,
            sock=sock,
            origins=origins or None,
            process_request=self._request,
            create_connection=Connection,
            compression=None,  # costs more CPU and memory than payloads of a match gain
            max_size=self._settings.max_payload,
            max_queue=(1024, 256),
            write_limit=HIGH_WATER,
            close_timeout=CLOSE_TIMEOUT,
            server_header="cloudmatch",
        )

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, or let a device with good parameters through to the upgrade."""
        url = urlsplit(request.path)
        if url.path != CONNECT:
            return _response(pages.answer(url.path, self._health, self._client_page))
        if "Sec-WebSocket-Protocol" in request.headers:
            offered = request.headers["Sec-WebSocket-Protocol"]
            return _response(pages.error(400, "unknown_subprotocol", f"none of {offered!r} is spoken here"))
        if self._relay is None:
            return _response(pages.error(503, "not_ready", "the edge is not connected to the bus"))
        try:
            assert isinstance(connection, Connection)
            connection.who = parse(url.query)
        except BadParameterError as bad:
            return _response(pages.bad_parameter(bad))
        return None

    async def _connected(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Connection)
        relay = self._relay
        assert relay is not None
        sock = DeviceSocket(connection)
        sock.send(classic.connected(self._settings.own_name))
        device = connection.device = relay.join(connection.who, sock)
        soon = asyncio.get_running_loop().call_soon
        try:
            while True:
                payload = classic.payload(await connection.recv())
                if device.take(payload):
                    soon(device.flush)
                await device.room()
        except ConnectionClosed:
            pass
        except classic.RefusedError as refused:
            await connection.close(refused.code, refused.reason)
        finally:
            relay.leave(device, connection.close_code or 1006)


def _response(page: pages.Page) -> Response:
    headers = Headers(
        [
            ("Content-Type", page.media_type),
            ("Content-Length", str(len(page.body))),
            ("Connection", "close"),
            ("Cache-Control", "no-store"),
        ]
    )
    return Response(page.status, http.HTTPStatus(page.status).phrase, headers, page.body)


async def serve_devices(environment: Environment, stop: asyncio.Event) -> None:
    """Serve probes; connect to the bus and let devices in, until `stop`."""
    settings = environment[EdgeSettings]
    health = Health()
    gateway = Gateway(settings, health)
    sock = listen(settings.host, settings.own_port)
    server = await gateway.listen(sock)
    ready_at("edge", sock)
    tasks: set[asyncio.Task[Any]] = set()
    async with session(environment[NatsSettings], "edge", health, stop) as bus:
        if bus is not None:
            facts = FactPublisher(bus)
            tasks.add(asyncio.create_task(facts.run()))
            relay = Relay(bus, settings.own_name, facts)
            await relay.start()
            gateway.open(relay)
            await stop.wait()
            health.check("stopping", lambda: "going away")
            server.close(code=GOING_AWAY)
            await server.wait_closed()
            await relay.drain(DRAIN)
            await facts.drain(DRAIN)
        for task in tasks:
            task.cancel()
    server.close()
