"""One hostile client sends all it can: the edge goes on turning, and its neighbours lose nothing."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import NatsServer, Service, eventually, eventually_sync, nats_server, service
from harness.bystanders import bystanders
from harness.floods import BINARY, FLOODS, PING, Client, flooding, frame, repeated
from harness.turns import Turns

pytestmark = pytest.mark.servers

SECONDS = 0.7  # of each flood
TURN = 0.05  # s of CPU that a turn may take
MIB = 1 << 20
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


def peak(edge: Service) -> int:
    """Return the most memory that an edge has used since `forget_peak`, in bytes."""
    status = Path(f"/proc/{edge.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_peak(edge: Service) -> int:
    """Begin to look for the peak; return the memory that an edge uses now, in bytes."""
    Path(f"/proc/{edge.process.pid}/clear_refs").write_text("5")
    return peak(edge)
