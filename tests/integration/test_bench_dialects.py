"""In each dialect the generator counts the errors of a faulty server, and none with a correct one."""

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bench import generator, trials
from bench.machine import ROOT
from bench.peer_runner import PeerRunner
from bench.peers import Peer
from bench.peers.all_peers import PEERS
from bench.report import Run
from bench.shapes import parse
from cloudmatch_bus.process.descriptors import raise_limit
from harness.unchanged import OPTIONAL

OTHERS = [peer for peer in PEERS if peer.name not in {"cloudmatch", "classic"}]
Fault = Callable[[int, bytes], list[bytes]]  # number and payload → the payloads that are delivered


# -- servers of one dialect each, for one pair, one way


class Plain:
    """Plain text frames."""

    subprotocol: str | None = None

    async def open(self, socket: ServerConnection) -> str:
        """Do the handshake; return the name of the device."""
        assert socket.request is not None
        await socket.send("ready")
        return socket.request.path.rpartition(".")[2]

    def parse(self, message: str | bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the payloads in a message from a device, and the replies to it."""
        assert isinstance(message, str)
        return [message.encode()], []

    def deliver(self, name: str, payload: bytes) -> list[str | bytes]:
        """Return the messages that deliver a payload."""
        return [payload.decode()]


class SocketIO(Plain):
    """Socket.IO 5 over Engine.IO 4."""

    async def open(self, socket: ServerConnection) -> str:
        assert socket.request is not None
        assert parse_qs(urlsplit(socket.request.path).query)["EIO"] == ["4"]
        await socket.send('0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        assert await socket.recv() == "40"
        await socket.send('40{"sid":"y"}')
        await socket.send("2")  # a ping, which is answered before any payload
        if "d=test.b0" in socket.request.path:
            assert await socket.recv() == "3"
        return socket.request.path.rpartition(".")[2]

    def parse(self, message: str | bytes) -> tuple[list[bytes], list[bytes]]:
        if message == "3":
            return [], []
        event, text = json.loads(message[2:])
        assert event == "m"
        return [text.encode()], []

    def deliver(self, name: str, payload: bytes) -> list[str | bytes]:
        return ["42" + json.dumps(["m", payload.decode()], separators=(",", ":"))]


class V1(Plain):
    """cloudmatch.v1 with binary payloads."""

    subprotocol = "cloudmatch.v1"

    async def open(self, socket: ServerConnection) -> str:
        assert socket.request is not None
        welcome = {"type": "welcome", "device": "x", "session": "x", "resume": "token", "grace": 30}
        for message in (welcome, {"type": "waiting", "since": 1}, {"type": "matched", "match": "1"}):
            await socket.send(json.dumps(message, separators=(",", ":")))
        return parse_qs(urlsplit(socket.request.path).query)["id"][0]

    def parse(self, message: str | bytes) -> tuple[list[bytes], list[bytes]]:
        assert isinstance(message, bytes)
        return [message], []

    def deliver(self, name: str, payload: bytes) -> list[str | bytes]:
        return [payload]


class MQTT(Plain):
    """MQTT 3.1.1."""

    subprotocol = "mqtt"

    def __init__(self, qos: int) -> None:
        self.qos = qos
        self.sent = 0

    async def open(self, socket: ServerConnection) -> str:
        connect = await socket.recv()
        assert isinstance(connect, bytes)
        assert connect[2:8] == b"\0\4MQTT"
        await socket.send(b"\x20\2\0\0")
        subscribe = await socket.recv()
        assert isinstance(subscribe, bytes)
        assert subscribe[-1] == self.qos
        await socket.send(b"\x90\3\0\1" + subscribe[-1:])
        return connect[14:].decode().rpartition("/")[2]

    def parse(self, message: str | bytes) -> tuple[list[bytes], list[bytes]]:
        assert isinstance(message, bytes)
        if message[0] == 0x40:  # the receiver's acknowledgement
            return [], []
        assert message[0] == 0x30 | self.qos << 1
        body = message[2:] if message[1] < 128 else message[3:]
        end = 2 + int.from_bytes(body[:2], "big")
        if not self.qos:
            return [body[end:]], []
        return [body[end + 2 :]], [b"\x40\2" + body[end : end + 2]]

    def deliver(self, name: str, payload: bytes) -> list[str | bytes]:
        topic = b"test/" + name.encode()
        self.sent += 1
        number = self.sent.to_bytes(2, "big") if self.qos else b""
        body = len(topic).to_bytes(2, "big") + topic + number + payload
        length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) % 128 | 128, len(body) // 128])
        packet = bytes([0x30 | self.qos << 1]) + length + body
        return [packet[:1], packet[1:20], packet[20:]]  # frame boundaries mean nothing


class NATS(Plain):
    """The NATS protocol."""

    async def open(self, socket: ServerConnection) -> str:
        await socket.send(b'INFO {"server_id":"x"}\r\n')
        hello = await socket.recv()
        assert isinstance(hello, bytes | str)
        lines = (hello if isinstance(hello, str) else hello.decode()).split("\r\n")
        assert lines[0].startswith("CONNECT {")
        assert lines[2] == "PING"
        await socket.send(b"PONG\r\n")
        return lines[1].split()[1].rpartition(".")[2]

    def parse(self, message: str | bytes) -> tuple[list[bytes], list[bytes]]:
        assert isinstance(message, bytes)
        head, _, rest = message.partition(b"\r\n")
        assert head.startswith(b"PUB bench.test.")
        assert rest[int(head.split()[2]) :] == b"\r\n"
        return [rest[:-2]], []

    def deliver(self, name: str, payload: bytes) -> list[str | bytes]:
        message = b"MSG bench.test.%s 1 %d\r\n%s\r\n" % (name.encode(), len(payload), payload)
        return [message[:9], message[9:60], message[60:]]


SERVERS: dict[str, Callable[[], Plain]] = {
    "plain": Plain,
    "socketio": SocketIO,
    "v1": V1,
    "mqtt0": lambda: MQTT(0),
    "mqtt1": lambda: MQTT(1),
    "nats": NATS,
}


@contextlib.asynccontextmanager
async def relay(server: Plain, fault: Fault) -> AsyncIterator[int]:
    """Yield the port of a server for a0 and b0 with a fault."""
    sockets: dict[str, asyncio.Future[ServerConnection]] = {
        name: asyncio.get_running_loop().create_future() for name in ("a0", "b0")
    }

    async def device(socket: ServerConnection) -> None:
        own = await server.open(socket)
        sockets[own].set_result(socket)
        peer = await sockets["b0" if own == "a0" else "a0"]
        n = 0
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                if own == "b0":
                    continue  # acknowledgements
                payloads, replies = server.parse(message)
                for payload in payloads:
                    for delivered in fault(n, payload):
                        for part in server.deliver("b0", delivered):
                            await peer.send(part)
                    n += 1
                for reply in replies:
                    await socket.send(reply)

    subprotocols = [Subprotocol(server.subprotocol)] if server.subprotocol else None
    async with serve(device, "127.0.0.1", 0, compression=None, subprotocols=subprotocols) as listening:
        yield listening.sockets[0].getsockname()[1]


class Swap:
    """Deliver the fifth payload after the sixth."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def __call__(self, n: int, payload: bytes) -> list[bytes]:
        if n == 5:
            self.held.append(payload)
            return []
        held, self.held = self.held, []
        return [payload, *held]


def at_five(change: Callable[[bytes], list[bytes]]) -> Callable[[], Fault]:
    """Return a fault that affects only the fifth payload."""
    return lambda: lambda n, payload: change(payload) if n == 5 else [payload]


FAULTS: dict[str, tuple[Callable[[], Fault], dict[str, int]]] = {
    "none": (lambda: lambda _, payload: [payload], {}),
    "lost": (at_five(lambda payload: []), {"lost": 1}),
    "twice": (at_five(lambda payload: [payload, payload]), {"repeated": 1}),
    "out of order": (Swap, {"reordered": 1}),
    "a byte changed": (at_five(lambda payload: [payload[:-1] + b"~"]), {"damaged": 1}),
}


def counted(run: Run) -> dict[str, int]:
    assert run.check is not None
    names = ("lost", "repeated", "reordered", "damaged")
    return {name: count for name in names if (count := getattr(run.check, name))}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dialect", SERVERS)
async def test_the_errors_of_a_server_are_counted_in_every_dialect(
    load_generator: Path, dialect: str, fault: str
) -> None:
    make, found = FAULTS[fault]
    async with relay(SERVERS[dialect](), make()) as port:
        run = await asyncio.to_thread(
            generator.run,
            load_generator,
            (port, port),
            {},
            ["--dialect", dialect, "--quiet", "0.5", *parse("1x4:64").options],
            app="test",
            warmup=0,
            seconds=0.2,
        )
    assert counted(run) == found
    assert run.payloads > 5
    assert run.valid == (not found)


# -- real servers


@pytest.fixture(scope="module", autouse=True)
def _files() -> Iterator[None]:
    """Raise the limit of open files, which peers inherit, as far as the system allows."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.servers
@pytest.mark.parametrize("peer", OTHERS, ids=lambda peer: peer.name)
def test_each_installed_peer_relays_payloads_undamaged_and_survives_lost_connections(
    load_generator: Path, peer: Peer
) -> None:
    folder = ROOT / ".run/bench/peers"
    if missing := peer.missing(folder):
        pytest.skip(f"{peer.title} is not installed ({missing}): {OPTIONAL}")
    (folder / "run").mkdir(parents=True, exist_ok=True)
    runner = PeerRunner(peer, folder, load_generator)
    try:
        relayed = runner.attempt(trials.relay("3x2:64", 0.1, 0.3, 1), 0)
        cut = runner.attempt(trials.CUT._replace(seconds=1.5), 0)
    finally:
        error = runner.stop()
    assert error == ""
    assert relayed.run is not None, relayed.error
    assert relayed.run.check is not None
    assert relayed.run.valid, relayed.run.check
    assert relayed.run.payloads > 0
    assert all(use.cpu_us > 0 for use in relayed.run.processes.values())
    assert cut.run is not None, cut.error
    assert cut.run.reconnects == 50
