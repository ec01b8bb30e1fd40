"""Provisioning a NATS server that has little storage."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_bus.client.provision import connected_bus, ensure_provisioned, provision
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.process.health import Health
from harness import NatsServer
from harness.bus import connected
from harness.processes import ROOT
from harness.servers import running

pytestmark = pytest.mark.servers

MIB = 2**20


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[NatsServer]:
    with running(NatsServer(tmp_path, more=with_storage(tmp_path, 300))) as server:
        yield server


def with_storage(folder: Path, mebibytes: int) -> list[str]:
    """Options of a server whose JetStream has that much storage."""
    config = (ROOT / "nats/server.conf").read_text(encoding="utf-8")
    small = folder / "small.conf"
    small.write_text(config.replace("jetstream {}", f"jetstream {{ max_file_store: {mebibytes}MiB }}"))
    return ["-c", str(small)]


async def test_the_stream_of_facts_is_as_large_as_the_server_can_make_it_and_grows_when_it_may(
    small_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(small_server.url) as bus:  # it provisions
        info = await provision(bus, 1)
        assert info.config.max_bytes == 256 * MIB
        assert "stream EVENTS keeps 256 MiB, not 4096: NATS has no more storage" in caplog.text
        with_storage(tmp_path, 8 * 1024)
        await asyncio.to_thread(small_server.restart)
        info = await ensure_provisioned(bus, 1)
        assert info.config.max_bytes == streams.EVENTS_MAX_BYTES


async def test_a_server_without_storage_is_described_once_until_it_has_some(
    small_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_storage(tmp_path, 1)
    await asyncio.to_thread(small_server.restart)
    health = Health()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        provisioning = group.create_task(provisioned(small_server.url, health))
        while "insufficient storage" not in caplog.text:  # noqa: ASYNC110  # a log has no event
            await asyncio.sleep(0.1)
        assert "insufficient storage" in health.reasons()["nats"]
        await asyncio.sleep(1)
        with_storage(tmp_path, 300)
        await asyncio.to_thread(small_server.restart)
        await provisioning
    assert (
        caplog.text.count("insufficient storage resources available (JetStream error 10047, code 500)") == 1
    )


async def provisioned(url: str, health: Health) -> None:
    async with connected_bus(NatsSettings(url=url), "test", health, asyncio.Event()) as bus:
        assert bus is not None
        assert health.reasons() == {}
