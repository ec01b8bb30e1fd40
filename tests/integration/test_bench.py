"""The load generator counts every payload; here it finds none lost, repeated or damaged."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import generator, relay
from bench.shapes import parse


@pytest.fixture
def program(tmp_path: Path) -> Path:
    try:
        return generator.build(tmp_path)
    except generator.CompilerMissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def stack(nats_server: object) -> Iterator[relay.Stack]:
    with relay.stack() as running:
        yield running


@pytest.mark.parametrize("shape", ["3x4:64", "3x300:1024+both", "2x2:60000", "5@500:64"])
def test_every_payload_of_a_load_arrives_once_in_order_undamaged(
    program: Path, stack: relay.Stack, shape: str
) -> None:
    run = generator.run(
        program, stack.ports, stack.pids, parse(shape).options, app="test", warmup=0.2, seconds=0.5
    )
    assert run.valid, run.check
    assert run.payloads > 0
    assert run.check is not None
    assert run.check.received == run.check.sent > 0
