"""The servers that other tests stand on."""

import subprocess

import aio_pika
import nats
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity
from confluent_kafka.admin import AdminClient

from cloudmatch_bus.contract import amqp
from harness import BIN, Process, alive, eventually_sync, service

pytestmark = pytest.mark.servers


async def test_a_nats_server_keeps_its_port_and_its_store_over_a_kill(nats_server):
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name="S", subjects=["s.>"])
    await client.jetstream().publish("s.a", b"kept")
    await client.close()
    url = nats_server.url
    nats_server.kill()
    nats_server.restart()
    assert nats_server.url == url
    client = await nats.connect(url)
    assert (await client.jetstream().get_msg("S", 1)).data == b"kept"
    await client.close()


async def test_a_rabbitmq_node_keeps_what_it_confirmed_over_a_kill(own_rabbitmq):
    async with await aio_pika.connect(own_rabbitmq.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "q")
    own_rabbitmq.kill()
    own_rabbitmq.restart()
    async with await aio_pika.connect(own_rabbitmq.url) as connection:
        found = await (await (await connection.channel()).get_queue("q")).get()
        assert found is not None
        assert found.body == b"kept"


def test_a_rabbitmq_node_starts_no_port_mapper_and_leaves_nothing_behind(own_rabbitmq, tmp_path):
    assert alive(own_rabbitmq.folder)[own_rabbitmq.process.pid].partition(" ")[0].endswith("beam.smp")
    each_minute = "rabbit_nodes:ensure_epmd()."
    assert control(own_rabbitmq, tmp_path, "eval", each_minute)
    commands = alive(own_rabbitmq.folder).values()
    assert not [command for command in commands if "epmd" in command.partition(" ")[0]]
    own_rabbitmq.terminate()
    assert own_rabbitmq.process.returncode == 0
    eventually_sync(lambda: not alive(own_rabbitmq.folder), 10, "the end of its helpers")


def test_rabbitmqs_own_tool_reaches_a_node_without_port_mapper(rabbitmq, tmp_path):
    assert control(rabbitmq, tmp_path, "list_vhosts") == ["name", "/"]


def test_rabbitmqs_own_tool_works_where_localhost_is_unknown(rabbitmq, tmp_path):
    unknown = ["unshare", "-m", "sh", "-c", 'mount --bind /dev/null /etc/hosts && exec "$@"', "-"]
    if subprocess.run([*unknown, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can hide /etc/hosts")
    assert control(rabbitmq, tmp_path, "list_vhosts", prefix=unknown) == ["name", "/"]


def control(rabbitmq, folder, *arguments, prefix=()):
    """Run a command of rabbitmqctl on a node; return the words that it prints."""
    command = [*prefix, BIN / "python", "-m", "cloudmatch_local.rabbitmq", *arguments]
    tool = Process("tool", command, {"CLOUDMATCH_RUN_DIR": str(rabbitmq.folder)}, folder)
    assert tool.wait(30) == 0, tool.tail()
    return tool.log.split()


@pytest.mark.parametrize("_", ["first", "second"])
async def test_each_test_finds_rabbitmq_without_the_queues_of_another(amqp_url, _):
    async with await aio_pika.connect(amqp_url) as connection:
        with pytest.raises(ChannelNotFoundEntity):
            await (await connection.channel()).declare_queue(amqp.QUEUE, passive=True)
        await (await connection.channel()).declare_queue(amqp.QUEUE, durable=True)


def test_a_broker_says_where_it_listens(kafka_broker):
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    assert len(admin.list_topics(timeout=10).brokers) == 1


def test_a_service_is_ready_when_started_and_may_be_killed_and_started_again(nats_server, start):
    engine = start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url})
    assert engine.get("/system/readiness")[0] == 200
    first = engine.process.pid
    engine.kill()
    assert engine.get("/system/readiness")[0] == 0
    engine.restart()
    assert engine.process.pid != first
    assert engine.get("/system/readiness")[0] == 200


def test_a_service_that_refuses_its_settings_fails_the_test_with_its_sentence():
    with (
        pytest.raises(AssertionError, match="CLOUDMATCH_MATCH_ENGINE_INDEX='x' cannot be used"),
        service("match-engine", {"CLOUDMATCH_MATCH_ENGINE_INDEX": "x"}),
    ):
        pass


def test_a_traceback_in_the_log_fails_the_test(nats_server):
    with (
        pytest.raises(AssertionError, match="logged a traceback"),
        service("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url}) as engine,
        engine.process.log_file.open("a") as log,
    ):
        log.write("Traceback (most recent call last):\n")
