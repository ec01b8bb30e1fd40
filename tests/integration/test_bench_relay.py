"""The relay under load: no payload lost, repeated, reordered or damaged, by an independent client in C."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import generator
from bench.shapes import parse
from bench.stack import Stack
from bench.stack import stack as running_stack

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Two edges and a worker on a NATS server, for all tests of this file."""
    with running_stack() as running:
        yield running


@pytest.mark.parametrize("shape", ["3x4:64", "3x300:1024+both", "2x2:60000", "5@500:64"])
def test_every_payload_of_a_load_arrives_once_in_order_undamaged(
    load_generator: Path, stack: Stack, shape: str
) -> None:
    app = "".join(filter(str.isalnum, shape))  # devices of the previous test may not have left theirs yet
    run = generator.run(
        load_generator, stack.ports, stack.pids, parse(shape).options, app=app, warmup=0.2, seconds=0.5
    )
    assert run.valid, run.check
    assert run.payloads > 0
    assert run.check is not None
    assert run.check.received == run.check.sent > 0


def test_receivers_that_are_cut_off_receive_every_payload_once(load_generator: Path, stack: Stack) -> None:
    options = ["--dialect", "v1", *parse("5@500:64").options, "--at", "0.5", "--cut"]
    run = generator.run(load_generator, stack.ports, {}, options, app="cut", warmup=0.2, seconds=1.5)
    assert run.reconnects == 5
    check = run.check
    assert check is not None
    assert (check.lost, check.repeated, check.reordered, check.damaged) == (0, 0, 0, 0)
    assert run.valid


def test_idle_connections_are_held_and_their_memory_is_reported(load_generator: Path, stack: Stack) -> None:
    options = ["--pairs", "20", "--idle", "0.2"]
    run = generator.run(load_generator, stack.ports, stack.pids, options, app="idle", warmup=0.1, seconds=1)
    assert run.valid
    assert run.connections == 40
    assert run.check is None
    assert all(use.rss_kib > 0 for use in run.processes.values())
    assert set(run.processes) == {"generator", *stack.pids}
