"""A real server holds what `stream_config` asks for, or the difference is named."""

import asyncio
from collections.abc import Iterator

import pytest

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.bucket import Bucket, ConflictError, Write
from cloudmatch_bus.client.connection import Bus, connect
from cloudmatch_bus.client.provision import ProvisionError, connected_bus, provision
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.process.health import Health
from harness import NatsCluster, NatsServer, eventually, nats_cluster


async def bus_of(server: NatsServer) -> Bus:
    return await connect(NatsSettings(url=server.url), "test")


async def test_provisioning_again_or_by_two_processes_at_once_changes_nothing(
    nats_server: NatsServer,
) -> None:
    one, other = await bus_of(nats_server), await bus_of(nats_server)
    await asyncio.gather(provision(one, 1), provision(other, 1))
    before = await one.jetstream().stream_info(streams.EVENTS)
    await provision(other, 1)
    after = await one.jetstream().stream_info(streams.EVENTS)
    assert before.config == after.config
    await one.close()
    await other.close()


async def test_a_stream_is_updated_or_the_field_that_cannot_change_is_named(nats_server: NatsServer) -> None:
    bus = await bus_of(nats_server)
    js = bus.jetstream()
    asked = stream_config.events(1)
    asked.max_age = 3600.0
    await js.add_stream(asked)
    await provision(bus, 1)
    assert (await js.stream_info(streams.EVENTS)).config.max_age == stream_config.events(1).max_age
    await js.delete_stream(streams.BUCKET_STREAM)
    other = stream_config.bucket(1)
    other.storage = stream_config.events(1).storage
    await js.add_stream(other)
    with pytest.raises(ProvisionError, match="KV_match"):
        await provision(bus, 1)
    await bus.close()


async def test_sequences_grow_even_after_the_loss_of_a_stream(nats_server: NatsServer) -> None:
    bus = await bus_of(nats_server)
    await provision(bus, 1)
    first = await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await bus.jetstream().delete_stream(streams.BUCKET_STREAM)
    await provision(bus, 1)
    assert await Bucket(bus).commit([Write("dev.x.a", b"1", 0)]) > first
    await bus.close()


async def test_a_batch_is_written_completely_or_not_at_all(nats_server: NatsServer) -> None:
    bus = await bus_of(nats_server)
    await provision(bus, 1)
    bucket = Bucket(bus)
    first = await bucket.commit([Write("dev.x.a", b"1", 0)])
    with pytest.raises(ConflictError):
        await bucket.commit([Write("dev.x.b", b"2", 0), Write("dev.x.a", b"2", first - 1)])
    assert (await bucket.get("dev.x.b")).value is None
    last = await bucket.commit([Write("dev.x.b", b"3", 0), Write("dev.x.a", b"3", first)])
    for key, revision in (("dev.x.b", last - 1), ("dev.x.a", last)):
        entry = await bucket.get(key)
        assert (entry.value, entry.revision) == (b"3", revision)
    await bus.close()


async def test_a_stream_changed_by_hand_is_restored_and_keeps_its_first_sequence(
    nats_server: NatsServer,
) -> None:
    bus = await bus_of(nats_server)
    await provision(bus, 1)
    js = bus.jetstream()
    changed = (await js.stream_info(streams.BUCKET_STREAM)).config
    first = changed.first_seq
    assert first, "it begins at the clock"
    changed.description = "something else"
    await js.update_stream(changed)
    await provision(bus, 1)
    found = (await js.stream_info(streams.BUCKET_STREAM)).config
    assert (found.description, found.first_seq) == (stream_config.bucket(1).description, first)
    await bus.close()


async def test_a_stream_that_is_not_as_asked_is_a_problem_until_someone_has_mended_it(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.provision.WATCH_INTERVAL", 0.05)
    health = Health()
    async with connected_bus(NatsSettings(url=nats_server.url), "test", health, asyncio.Event()) as bus:
        assert bus is not None
        js = bus.jetstream()
        wrong = stream_config.bucket(1)
        wrong.storage = stream_config.events(1).storage
        await js.delete_stream(streams.BUCKET_STREAM)
        await js.add_stream(wrong)
        await js.delete_stream(streams.EVENTS)
        await eventually(lambda: streams.BUCKET_STREAM in str(health.reasons()), 10, "a problem")
        await js.delete_stream(streams.BUCKET_STREAM)
        await eventually(lambda: not health.reasons(), 10, "no problem any more")


@pytest.fixture
def cluster() -> Iterator[NatsCluster]:
    with nats_cluster() as made:
        yield made


async def replica_warnings(caplog: pytest.LogCaptureFixture, settings: NatsSettings) -> list[str]:
    """Return what a service that starts with these settings logs about replicas."""
    caplog.clear()
    async with connected_bus(settings, "test", Health(), asyncio.Event()) as bus:
        assert bus is not None
    return [text for each in caplog.records if "CLOUDMATCH_NATS_REPLICAS" in (text := each.getMessage())]


async def test_a_single_replica_in_a_cluster_is_warned_of_whether_streams_are_created_or_found(
    cluster: NatsCluster, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = await replica_warnings(caplog, NatsSettings(url=cluster.url, replicas=1))
    assert warning == (
        "single-replica streams in NATS cluster 'test': "
        "while the server that holds one is down, devices are not matched or facts not stored; "
        "CLOUDMATCH_NATS_REPLICAS=3 creates new streams with three replicas"
    )
    # Existing streams keep their replicas, whatever later processes are configured with.
    assert await replica_warnings(caplog, NatsSettings(url=cluster.url, replicas=3)) == [warning]
    assert await replica_warnings(caplog, NatsSettings(url=cluster.url, replicas=3, provision=False)) == [
        warning
    ]


async def test_three_replicas_in_a_cluster_are_not_warned_of(
    cluster: NatsCluster, caplog: pytest.LogCaptureFixture
) -> None:
    assert await replica_warnings(caplog, NatsSettings(url=cluster.url, replicas=3)) == []
    assert await replica_warnings(caplog, NatsSettings(url=cluster.url, replicas=1, provision=False)) == []


async def test_a_single_replica_outside_a_cluster_is_not_warned_of(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await replica_warnings(caplog, NatsSettings(url=nats_server.url, replicas=1)) == []
