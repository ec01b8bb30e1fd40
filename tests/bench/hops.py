"""CPU time of the Python code per payload, by hop, without sockets: two edges and a worker in one process.

What they write to NATS is forwarded in memory; only their own work is timed. The best of many repetitions
counts, so the figures vary less on a busy machine than those of whole processes. The kernel and NATS cost
extra.
"""

import asyncio
import contextlib
import gc
import re
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Table
from websockets.frames import BINARY, TEXT, Frame

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.transport import NatsProtocol
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired, DeviceRecord
from cloudmatch_bus.process.health import Health
from cloudmatch_edge.bus.hub import Hub
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets.connection import Connection
from cloudmatch_edge.sockets.listener import Listener
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.worker import Worker

APP, MATCH = "bench", 7
PAIRS = 50
PAYLOADS = 12_800  # per repetition
ACK_EVERY = 16  # payloads per ack of a cloudmatch.v1 device
PUBLISH = re.compile(rb"H?PUB (\S+) (\S*) (?:(\d+) )?(\d+)\r\n")


OPEN = socket.socketpair()  # stands for the sockets of connections in memory


class Socket(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def pop(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self.written)
        self.written.clear()
        return data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return OPEN[0] if name == "socket" else default

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        raise AssertionError("a device has run out of credit, which must not happen here")

    def resume_reading(self) -> None:
        pass


class Client:
    """The part of nats-py's client that the bus uses."""

    pending_data_size, is_connected, max_payload = 0, True, 1 << 20

    def __init__(self) -> None:
        self.subjects: list[str] = []  # by subscription id, from 1

    def new_inbox(self) -> str:
        return "_INBOX.bench"

    async def subscribe(self, subject: str, queue: str, cb: object) -> Any:
        self.subjects.append(subject)
        return type("Subscription", (), {"_id": len(self.subjects)})

    async def request(self, *_: object, **__: object) -> None:
        await asyncio.Event().wait()  # no answer: devices are matched directly


class Hop:
    """One process on the way: its bus, and the CPU time that it has spent."""

    def __init__(self) -> None:
        self.client = Client()
        self.bus = Bus(self.client, fast=True)  # type: ignore[arg-type]  # only the part that is used
        self.protocol = NatsProtocol(self.bus._handlers, 1 << 30)
        self.socket = Socket()
        self.protocol.connection_made(self.socket)
        assert self.bus._transport is not None
        self.bus._transport.protocol = self.protocol
        self.spent = 0  # ns

    async def timed(self, work: Callable[[], None]) -> None:
        """Run `work` and what it schedules for the same turn of the event loop; add up the CPU time."""
        start = time.process_time_ns()
        work()
        await asyncio.sleep(0)
        self.spent += time.process_time_ns() - start

    def sid(self, subject: str) -> int:
        """Id of the subscription that matches a subject."""
        tokens = subject.split(".")
        for number, pattern in enumerate(self.client.subjects, 1):
            parts = pattern.removesuffix(".>").split(".")
            if all(part in ("*", token) for part, token in zip(parts, tokens, strict=False)):
                return number
        raise AssertionError(f"no subscription to {subject}")


class Edge(Hop):
    """An edge with its devices."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.listener = Listener(EdgeSettings(name=name), Health())
        self.facts = FactPublisher(self.bus)
        self.hub = Hub(self.bus, name, self.facts, patience=60, grace=30)
        self.devices: list[Connection] = []

    async def start(self) -> asyncio.Task[None]:
        """Start accepting devices."""
        await self.hub.start()
        self.listener.open(self.hub)
        task = asyncio.create_task(self.facts.run())
        await asyncio.sleep(0)
        return task

    def connect(self, device: str, subprotocol: str) -> None:
        """Open the WebSocket of a device."""
        connection = Connection(self.listener)
        connection.connection_made(Socket())
        connection.data_received(
            f"GET /device/connect?id={device}&app={APP}&lat=1&lon=1 HTTP/1.1\r\nHost: x\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\n{subprotocol}"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.devices.append(connection)


class Chain:
    """Edge a, worker and edge b, with NATS between them replaced by `carry`."""

    def __init__(self) -> None:
        self.a, self.worker, self.b = Edge("a"), Hop(), Edge("b")
        self.hops = {"a": self.a, "b": self.b}
        self.engine = Worker(self.worker.bus, 1.42)

    async def pair(self, dialect: str) -> None:
        """Connect the devices, and match them in edges and worker."""
        await self.worker.bus.subscribe(subjects.all_of("up"), self.engine._router.on_batch)
        subprotocol = "Sec-WebSocket-Protocol: cloudmatch.v1\r\n" if dialect == "v1" else ""
        for number in range(PAIRS):
            for edge in (self.a, self.b):
                edge.connect(f"{edge.name}{number}", subprotocol)
            while not all(edge.devices[-1]._device for edge in (self.a, self.b)):  # noqa: ASYNC110  # few a turn
                await asyncio.sleep(0)
            for edge, other in ((self.a, self.b), (self.b, self.a)):
                device, peer = edge.devices[-1]._device, other.devices[-1]._device
                assert device is not None
                assert peer is not None
                me, them = device.who.id, peer.who.id
                device.on_answer(
                    DevicePaired(
                        connection_id=device.connection_id,
                        match=MATCH,
                        peer=them,
                        distance=0,
                        matched_connection_id=device.connection_id,
                        peer_edge=other.name,
                        peer_connection_id=peer.connection_id,
                    )
                )
                record = DeviceRecord(
                    app=APP, device=me, edge=edge.name, connection_id=1, lat=1, lon=1, match=MATCH, peer=them
                )
                self.engine._roster.put(device_id(APP, me), record, number)
        await asyncio.sleep(0)

    async def carry(self) -> None:
        """Forward what was written to NATS until nothing more is written."""
        while published := [found for hop in (self.a, self.worker, self.b) for found in _published(hop)]:
            bound: dict[Hop, list[bytes]] = defaultdict(list)
            for source, subject, reply, payload in published:
                kind = subject.split(".")[3]
                if kind == "ev":
                    target, subject, reply, payload = source, reply, "", b'{"stream":"EVENTS","seq":1}'
                else:
                    target = self.worker if kind == "up" else self.hops[subject.split(".")[4]]
                head = " ".join(filter(None, (subject, str(target.sid(subject)), reply, str(len(payload)))))
                bound[target].append(b"MSG %b\r\n%b\r\n" % (head.encode(), payload))
            for target, messages in bound.items():
                data = b"".join(messages)
                await target.timed(lambda target=target, data=data: target.protocol.data_received(data))  # type: ignore[misc]


def _published(hop: Hop) -> list[tuple[Hop, str, str, bytes]]:
    data = hop.socket.pop()
    at, found = 0, []
    while at < len(data):
        command = PUBLISH.match(data, at)
        assert command is not None, data[at : at + 80]
        head, size = int(command[3] or 0), int(command[4])
        payload = data[command.end() + head : command.end() + size]
        found.append((hop, command[1].decode(), command[2].decode(), payload))
        at = command.end() + size + 2
    return found


@contextlib.asynccontextmanager
async def chain(dialect: str) -> AsyncIterator[Chain]:
    """Yield a chain whose devices are matched."""
    made = Chain()
    tasks = [await edge.start() for edge in (made.a, made.b)]
    await made.pair(dialect)
    await made.carry()
    yield made
    for task in tasks:
        task.cancel()


async def measure(dialect: str, batch: int, size: int, repetitions: int) -> dict[str, float]:
    """CPU-µs per payload of each hop, with `batch` payloads at a time for each device."""
    opcode = BINARY if dialect == "v1" else TEXT
    chunk = Frame(opcode, b"x" * size).serialize(mask=True) * batch
    rounds = max(1, PAYLOADS // PAIRS // batch)
    best: dict[str, float] = {}
    async with chain(dialect) as matched:
        hops = {"edge a": matched.a, "worker": matched.worker, "edge b": matched.b}
        sent = unacknowledged = 0

        def send() -> None:
            for connection in matched.a.devices:
                connection.data_received(chunk)

        def acknowledge() -> None:
            ack = Frame(TEXT, b'{"type":"ack","received":%d}' % sent).serialize(mask=True)
            for connection in matched.b.devices:
                connection.data_received(ack)

        for _ in range(repetitions):
            for hop in hops.values():
                hop.spent = 0
            for _ in range(rounds):
                await matched.a.timed(send)
                sent += batch
                unacknowledged += batch
                await matched.carry()
                if unacknowledged >= ACK_EVERY:
                    unacknowledged = 0
                    if dialect == "v1":
                        await matched.b.timed(acknowledge)
                        await matched.carry()
            for name, hop in hops.items():
                cost = hop.spent / 1000 / (rounds * PAIRS * batch)
                best[name] = min(cost, best.get(name, cost))
        for connection in matched.b.devices:
            assert connection._device is not None
            assert connection._device.match is not None
            assert connection._device.match.inbound.receiver.next == sent, "payloads were lost"
    return best


def main(
    size: Annotated[int, typer.Option(min=1, max=60_000, help="Size of a payload, bytes.")] = 64,
    repetitions: Annotated[int, typer.Option(min=1, help="Of which the best counts.")] = 10,
) -> None:
    """Measure the CPU time of edges and worker per payload, without sockets.

    Examples: `make bench WHAT=hops`, `make bench WHAT=hops ARGS='--size 1024'`.
    """
    table = Table(title=f"CPU-µs per payload of {size} bytes, {PAIRS} pairs", title_justify="left")
    for column in ("", "edge a", "worker", "edge b", "sum"):
        table.add_column(column, justify="right" if column else "left")
    gc.freeze()
    for dialect in ("v1", "classic"):
        for batch in (1, 8, 64):
            found = uvloop.run(measure(dialect, batch, size, repetitions))
            row = [f"{found[name]:.2f}" for name in ("edge a", "worker", "edge b")]
            table.add_row(f"{dialect}, {batch} at a time", *row, f"{sum(found.values()):.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
