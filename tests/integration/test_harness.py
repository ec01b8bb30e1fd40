"""The harness itself: what other tests stand on."""

import nats
import pytest

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


def test_a_rabbitmq_node_answers_and_is_clean(amqp_url):
    assert amqp_url.startswith("amqp://guest:guest@127.0.0.1:")
