"""One hostile client sends all it can: the edge goes on turning, and its neighbours lose nothing."""

import contextlib
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_edge.dialects.close_codes import TRY_AGAIN_LATER
from harness import NatsServer, Service, eventually, eventually_sync, nats_server, service
from harness.bystanders import bystanders
from harness.floods import BINARY, FLOODS, PING, TEXT, Client, flooding, frame, repeated
from harness.turns import Turns

pytestmark = pytest.mark.servers

SECONDS = 0.4  # of each flood
TURN = 0.05  # s of CPU that a turn may take
MIB = 1 << 20
NOISE = bytes(33 + each % 90 for each in random.Random(3).randbytes(3 * MIB // 2))  # noqa: S311  # repeatable
ESCAPES = b"".join(b"\\u00%02x" % (each % 128) for each in NOISE[: 256 * 1024])
NO_QUOTA = {"CLOUDMATCH_EDGE_CONTROL": "0"}  # fairness does not need it


@pytest.fixture(scope="module")
def bus() -> Iterator[NatsServer]:
    """A NATS server for this file."""
    with nats_server() as server:
        yield server


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Turns:
    """The turns of the edge."""
    return Turns(tmp_path_factory.mktemp("turns") / "turns")


@pytest.fixture(scope="module")
def worker(bus: NatsServer) -> Iterator[Service]:
    """A worker for this file."""
    with service("match-engine", {"CLOUDMATCH_NATS_URL": bus.url}) as running:
        yield running


@pytest.fixture(scope="module")
def edge(bus: NatsServer, worker: Service, turns: Turns) -> Iterator[Service]:
    """An edge for this file."""
    settings = {"CLOUDMATCH_NATS_URL": bus.url, **NO_QUOTA, **turns.settings}
    with service("edge", settings) as running:
        yield running


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_holds_no_turn_for_long_and_costs_a_bystander_nothing(
    edge: Service, worker: Service, turns: Turns, name: str
) -> None:
    async with bystanders(edge) as pair:
        turns.restart()
        with flooding(FLOODS[name], edge.url, SECONDS) as ended:
            await eventually(lambda: ended, 20 + SECONDS, "end of the flood")
        print(  # what pytest -s shows  # noqa: T201
            f"\n{name}: sent {ended[0].sent / MIB:.1f} MiB, {ended[0].end}; longest turn "
            f"{1000 * turns.longest:.0f} ms; {len(pair.echoes)} echoes, "
            f"p50 {1000 * pair.percentile(0.5):.0f}, p99 {1000 * pair.percentile(0.99):.0f} ms"
        )
        assert ended[0].sent > 1000, "it was no flood"
        assert turns.longest < TURN
    assert "does not answer" not in worker.logs(), "the edge counted as dead"


@pytest.mark.parametrize("name", ["never reads", "never reads, pings"])
def test_clients_that_never_read_take_little_memory_and_are_closed_in_time(
    bus: NatsServer, worker: Service, name: str
) -> None:
    flood = frame(BINARY, b"x") if name == "never reads" else frame(PING, b"x" * 125)
    patient = {"CLOUDMATCH_NATS_URL": bus.url, **NO_QUOTA, "CLOUDMATCH_EDGE_PATIENCE": "1"}
    with service("edge", {**patient, "CLOUDMATCH_EDGE_NAME": name.replace(", ", "-")}) as edge:
        clients = [Client(edge.url, f"mute-{i}", reads=False, buffer=4096) for i in range(4)]
        before = forget_peak(edge)
        taken = 0
        for client in clients:
            with contextlib.suppress(ConnectionError):
                taken += client.send(repeated(flood, 32 * MIB), time.monotonic() + 0.2)
        eventually_sync(lambda: edge.metric("cloudmatch_edge_devices") == 0, 20, "they are closed")
        assert edge.metric("cloudmatch_edge_connections_total") == len(clients)
        assert 'code="1013"' in edge.get("/metrics")[1]
        grown = peak(edge) - before
        print(f"{grown / 4 / 1024:.0f} KiB for each, {taken / 4 / MIB:.1f} MiB taken")  # noqa: T201  # for -s
        assert grown < len(clients) * MIB
        for client in clients:
            client.close()


UNFINISHED = {
    "text": frame(TEXT, NOISE),
    "a text of escapes": frame(TEXT, b'{"type":"message","text":"' + ESCAPES),
    "fragments of escapes": frame(TEXT, ESCAPES[:120_000], fin=False)
    + frame(0, ESCAPES[:120_000], fin=False) * 12,
    "a large frame, then another": frame(BINARY, bytes(256 * 1024)) + frame(BINARY, bytes(256 * 1024))[:-1],
}


def test_unfinished_messages_take_little_memory(bus: NatsServer, worker: Service) -> None:
    settings = {"CLOUDMATCH_NATS_URL": bus.url, "CLOUDMATCH_EDGE_NAME": "unfinished"}
    with service("edge", settings) as edge, contextlib.ExitStack() as clients:
        for name, data in UNFINISHED.items():
            made = [
                clients.enter_context(contextlib.closing(Client(edge.url, f"{name} {i}"))) for i in range(8)
            ]
            before = forget_peak(edge)
            for client in made:
                with contextlib.suppress(ConnectionError):
                    client.send(data[:-1], time.monotonic() + 5)
            assert edge.get("/system/liveness")[0] == 200
            grown = (peak(edge) - before) / len(made)
            print(f"{name}: {grown / 1024:.0f} KiB for each")  # noqa: T201  # for -s
            assert grown < MIB


def test_a_device_that_never_acks_and_never_reads_costs_its_sender_the_connection_and_has_nothing(
    bus: NatsServer, worker: Service
) -> None:
    patient = {"CLOUDMATCH_NATS_URL": bus.url, "CLOUDMATCH_EDGE_PATIENCE": "2"}
    with (
        service("edge", {**patient, "CLOUDMATCH_EDGE_NAME": "patient"}) as edge,
        contextlib.closing(Client(edge.url, "mute", reads=False, buffer=4096, lat=-60)) as mute,
        contextlib.closing(Client(edge.url, "sender", lat=-60)) as sender,
    ):
        assert sender.matched.wait(10)
        with contextlib.suppress(ConnectionError):
            sender.send(repeated(frame(BINARY, bytes(4096)), 32 * MIB), time.monotonic() + 10)
        assert sender.ended.wait(10)
        assert sender.close_code == TRY_AGAIN_LATER.code
        delivered = max(map(int, re.findall(rb'"delivered":(\d+)', sender.tail)), default=0)
        mute.read()
        print(f"{delivered} payloads delivered, {mute.received} bytes received")  # noqa: T201  # for -s
        assert delivered * 4096 <= mute.received


def peak(edge: Service) -> int:
    """Return the most memory that an edge has used since `forget_peak`, in bytes."""
    status = Path(f"/proc/{edge.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_peak(edge: Service) -> int:
    """Begin to look for the peak; return the memory that an edge uses now, in bytes."""
    Path(f"/proc/{edge.process.pid}/clear_refs").write_text("5")
    return peak(edge)
