"""The scenario of 2019, on the whole system and real servers.

The system is the environment `production` of deploy/kustomize: three servers of NATS with TLS, a key for each
service, and the settings of its pods. RabbitMQ and Kafka are those of development.

Devices a (1,1), b (1,3) and c (1,2) are on two edges. With the default reach, the planar rule of 2019
(below 1.42 degrees), c is in reach of both, while a and b are 2 degrees apart. With a radius of 250 km, all
three are in reach of each other.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
import pytest

import harness
from cloudmatch_bus.contract import amqp
from deploy.loopback import Environment
from harness import Service, eventually
from harness.classic import device, receive_text

LOCAL_KAFKA = {"CLOUDMATCH_KAFKA_BROKERS": "", "CLOUDMATCH_ANALYTICS_REPLICATION": ""}
LOCATIONS = {"a": (1, 1), "b": (1, 3), "c": (1, 2)}


class System(NamedTuple):
    """All services, running."""

    edges: list[Service]
    journal: Service
    bridge: Service
    analytics: Service
    amqp_url: str


@pytest.fixture
def system(amqp_url: str, kafka_broker: harness.KafkaBroker, tmp_path: Path) -> Iterator[System]:
    here = Environment("overlays/production", tmp_path)
    here.secrets["rabbitmq"] = {"url": amqp_url}
    with here.nats(), here.services() as start:
        for i in range(3):
            start("match-engine", f"match-engine-{i}")
        yield System(
            edges=[start("edge", f"edge-{i}") for i in range(2)],
            journal=start("journal", "journal-0"),
            bridge=start("bridge-rabbit", "bridge-rabbit-0", {"CLOUDMATCH_BRIDGE_RABBIT_SINGLES": "true"}),
            analytics=start("analytics", "analytics-0", LOCAL_KAFKA | kafka_broker.settings, deadline=40),
            amqp_url=amqp_url,
        )
        here.check()


@contextlib.asynccontextmanager
async def sizes_published(url: str) -> AsyncIterator[asyncio.Queue[aio_pika.abc.AbstractIncomingMessage]]:
    """Consume a queue of our own on the exchange, beside that of analytics."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(amqp.EXCHANGE, "#")
        messages: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(messages.put, no_ack=True)
        yield messages


def windows(system: System, query: str) -> list[dict[str, Any]]:
    """Closed windows that contain payloads."""
    found = system.analytics.get_json(f"/windows?{query}")
    rows = found["windows"] if isinstance(found, dict) else found
    return [row for row in rows if row["messages"]]


async def test_payloads_are_relayed_and_counted_as_in_2019(system: System) -> None:
    # All three in reach of each other.
    reach = 250_000  # m
    async with (
        sizes_published(system.amqp_url) as sizes,
        device(system.edges[0], "a", *LOCATIONS["a"], radius=reach) as a,
        device(system.edges[1], "c", *LOCATIONS["c"], radius=reach) as c,
    ):
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"
        async with device(system.edges[1], "b", *LOCATIONS["b"], radius=reach) as b:
            # b waits and changes no match: the next message anyone receives is the payload.
            sent = time.time()
            await a.send("ciao")
            assert await receive_text(c) == "device a says: ciao"

            size = await asyncio.wait_for(sizes.get(), 10)
            assert size.body == b"4"
            assert (size.headers["from"], size.headers["to"]) == ("a", "c")

            def state() -> dict[str, Any]:
                status, _ = system.journal.get("/device/state/a")
                return system.journal.get_json("/device/state/a") if status == 200 else {}

            await eventually(lambda: state().get("bytesSent") == 4, what="the journal's 4 bytes")
            assert state()["connectionsOpen"] == 1
            assert system.journal.get_json("/device/state/c")["bytesReceived"] == 4

            # The window closes on time although no payload follows.
            (window,) = await eventually(
                lambda: windows(system, "size=10s"), deadline=30, what="the 10 s window"
            )
            closed = time.time()
            assert (window["bytes"], window["messages"]) == (4, 1)
            assert window["start"] <= sent * 1000 + 10_000
            assert window["end"] - window["start"] == 10_000
            assert closed * 1000 >= window["end"]
            (of_a,) = windows(system, "size=10s&device=a")
            assert (of_a["bytes"], of_a["messages"]) == (4, 1)
            line = "bytes exchanged in the previous 10 seconds: 4"
            await eventually(lambda: line in system.analytics.logs(), what="the line in the log")

            # ciào is 5 bytes everywhere.
            await a.send("ciào")
            assert await receive_text(c) == "device a says: ciào"
            assert (await asyncio.wait_for(sizes.get(), 10)).body == b"5"
            await eventually(lambda: state()["bytesSent"] == 9, what="the journal's 9 bytes")

            await c.close()
            assert await receive_text(b) == "I matched with device 'a'!"
            assert await receive_text(a) == "I matched with device 'b'!"
            match = system.journal.get_json("/device/state/b")["matches"]
            await eventually(
                lambda: system.journal.get_json("/device/state/b")["matches"] == 1, what=f"{match}"
            )
        total = await eventually(
            lambda: (found := windows(system, "size=10s")) and sum(w["bytes"] for w in found) == 9 and found,
            deadline=30,
            what="9 bytes in closed windows",
        )
        assert sum(w["messages"] for w in total) == 2
