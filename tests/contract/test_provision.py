"""A real server keeps what `streams` asks for, or says what differs."""

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
from harness import NatsCluster, NatsServer, nats_cluster


async def bus_of(server: NatsServer) -> Bus:
    return await connect(NatsSettings(url=server.url), "test")


async def test_provisioning_twice_and_by_two_at_once_changes_nothing(nats_server: NatsServer) -> None:
    one, other = await bus_of(nats_server), await bus_of(nats_server)
    await asyncio.gather(provision(one, 1), provision(other, 1))
    before = await one.jetstream().stream_info(streams.EVENTS)
    await provision(other, 1)
    after = await one.jetstream().stream_info(streams.EVENTS)
    assert before.config == after.config
    await one.close()
    await other.close()


async def test_what_may_change_is_changed_and_what_may_not_is_named(nats_server: NatsServer) -> None:
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


async def test_sequences_grow_even_over_the_loss_of_a_stream(nats_server: NatsServer) -> None:
    bus = await bus_of(nats_server)
    await provision(bus, 1)
    first = await Bucket(bus).commit([Write("dev.x.a", b"1", 0)])
    await bus.jetstream().delete_stream(streams.BUCKET_STREAM)
    await provision(bus, 1)
    assert await Bucket(bus).commit([Write("dev.x.a", b"1", 0)]) > first
    await bus.close()


async def test_a_batch_is_written_whole_or_not_at_all(nats_server: NatsServer) -> None:
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


@pytest.fixture
def cluster() -> Iterator[NatsCluster]:
    with nats_cluster() as made:
        yield made


async def warned(caplog: pytest.LogCaptureFixture, settings: NatsSettings) -> list[str]:
    """Give what a service that starts with these settings says of copies, once JetStream has answered."""
    caplog.clear()
    async with connected_bus(settings, "test", Health(), asyncio.Event()) as bus:
        assert bus is not None
    return [text for each in caplog.records if "CLOUDMATCH_NATS_REPLICAS" in (text := each.getMessage())]


async def test_one_copy_in_a_cluster_is_warned_of_by_who_makes_the_streams_and_by_who_finds_them(
    cluster: NatsCluster, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = await warned(caplog, NatsSettings(url=cluster.url, replicas=1))
    assert warning == (
        "single-replica streams in NATS cluster 'test': "
        "while the server that holds one is down, devices are not matched or facts not stored; "
        "CLOUDMATCH_NATS_REPLICAS=3 creates new streams with three replicas"
    )
    # Streams that there are keep their copies, whatever who comes later is set to.
    assert await warned(caplog, NatsSettings(url=cluster.url, replicas=3)) == [warning]
    assert await warned(caplog, NatsSettings(url=cluster.url, replicas=3, provision=False)) == [warning]


async def test_three_copies_in_a_cluster_are_not_warned_of(
    cluster: NatsCluster, caplog: pytest.LogCaptureFixture
) -> None:
    assert await warned(caplog, NatsSettings(url=cluster.url, replicas=3)) == []
    assert await warned(caplog, NatsSettings(url=cluster.url, replicas=1, provision=False)) == []


async def test_one_copy_on_a_server_that_stands_alone_is_not_warned_of(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await warned(caplog, NatsSettings(url=nats_server.url, replicas=1)) == []
