"""The commands of deploy/README.md that use the NATS command line; skipped where it is not installed."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.provision import provision
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import MatchEnded
from deploy.loopback import Environment

NATS = shutil.which("nats", path=f"{os.environ.get('PATH', os.defpath)}:{Path.home() / 'go/bin'}")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(NATS is None, reason="the NATS command line, nats, is not installed"),
]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment("overlays/local", tmp_path)
    with environment.nats():
        yield environment


async def nats(here: Environment, user: str, *command: str) -> str:
    """Run a command as this user; return what it prints, errors included."""
    settings = here.person(user)
    done = await asyncio.to_thread(
        subprocess.run,
        [str(NATS), "--no-context", "-s", settings.url, "--creds", settings.credentials_file, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    return str(done.stdout)


async def test_people_inspect_query_and_back_up_each_with_their_own_key(here: Environment) -> None:
    backup = str(here.folder / "backup")
    bus = await connect(here.person("match-engine"), "match-engine")
    await provision(bus, 1)
    publisher = FactPublisher(bus)
    telling = asyncio.create_task(publisher.run())
    try:
        publisher.publish(MatchEnded(app="demo", at=1, match=1, device="a", peer="c", reason="left"))
        assert await publisher.drain(10) == 0
        assert "bridge-rabbit" in await nats(here, "operator", "consumer", "ls", "EVENTS")
        assert "Unprocessed Messages: 1" in await nats(
            here, "operator", "consumer", "info", "EVENTS", "bridge-rabbit"
        )
        assert "No keys" in await nats(here, "operator", "kv", "ls", "match")
        assert "No responders" in await nats(here, "operator", "req", subjects.explain(), '{"id":"a"}')
        assert "No responders" in await nats(here, "operator", "req", subjects.cluster(), "{}")
        assert "match-engine" in await nats(here, "sys", "server", "report", "connections")
        assert "Permissions Violation" in await nats(here, "trace", "pub", subjects.probe("edge-0"), "x")
        assert "Permissions Violation" in await nats(here, "edge", "sub", "--count=1", subjects.EVERYTHING)
        # A backup, restored with its positions and the consumers'.
        before = (await bus.jetstream().stream_info("EVENTS")).state
        assert "done!" in await nats(here, "operator", "stream", "backup", "EVENTS", backup)
        await nats(here, "operator", "stream", "rm", "-f", "EVENTS")
        await nats(here, "operator", "stream", "restore", backup)
        after = (await bus.jetstream().stream_info("EVENTS")).state
        assert (after.messages, after.last_seq) == (before.messages, before.last_seq) == (1, before.first_seq)
        assert "bridge-rabbit" in await nats(here, "operator", "consumer", "ls", "EVENTS")
    finally:
        telling.cancel()
        await bus.close()
