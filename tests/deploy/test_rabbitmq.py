"""RabbitMQ with TLS, as `production` configures it, and the bridge that publishes there."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest

from cloudmatch_local import rabbitmq as node
from deploy.loopback import Environment
from harness import NatsServer, Process, eventually, eventually_sync, free_port
from harness.amqp import arriving, sizes
from harness.facts import facts
from harness.servers import answers

pytestmark = pytest.mark.servers


@contextlib.contextmanager
def rabbitmq(here: Environment, port: int) -> Iterator[None]:
    """Run a node with the pod's TLS; the rest, such as its address, is as in development."""
    if reason := node.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    folder = here.folder / "rabbitmq-0"
    more = {"5671": f"127.0.0.1:{port}", "ssl.default": "ssl.1"}
    there = here.mount(here.rendered.pod("rabbitmq"), folder, more)
    node.configure(folder, port)
    file = folder / "rabbitmq.conf"
    _, _, rest = file.read_text().partition("\n")  # without its plain listener
    file.write_text(rest + Path(there["/etc/rabbitmq/cloudmatch"], "tls.conf").read_text())
    process = Process("rabbitmq", ["/bin/sh", node.SCRIPT], node.environment(folder, free_port()), folder)
    try:
        eventually_sync(lambda: answers(port), 60, "RabbitMQ listening")
        yield
    finally:
        process.terminate(20)


async def test_the_bridge_uses_tls_with_rabbitmq_and_trusts_only_its_authority(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    here, port = Environment("overlays/production", tmp_path), free_port()
    plainly = f"amqps://guest:guest@127.0.0.1:{port}/"
    here.secrets["rabbitmq"] = {"url": f"{plainly}?cafile=/etc/cloudmatch/rabbitmq/ca.crt"}
    open_bus = {
        "CLOUDMATCH_NATS_URL": nats_server.url,
        "CLOUDMATCH_NATS_REPLICAS": "1",
        "CLOUDMATCH_NATS_PROVISION": "true",
        "CLOUDMATCH_NATS_CREDENTIALS_FILE": "",
        "CLOUDMATCH_NATS_CA_FILE": "",
    }
    with rabbitmq(here, port), here.services() as start:
        bridge = await asyncio.to_thread(start, "bridge-rabbit", "bridge-rabbit-0", open_bus, 40)
        async with (
            facts(nats_server.url) as bus,
            arriving(bridge.env["CLOUDMATCH_AMQP_URL"]) as messages,
        ):
            bus.payloads(4)
            await bus.kept()
            await eventually(lambda: sizes(messages) == [4], 10, "the size")
        with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
            await aio_pika.connect(plainly, timeout=5)
