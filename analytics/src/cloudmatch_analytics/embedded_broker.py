"""A Kafka-protocol broker for development and tests, in one small process with nothing to install.

It is the mock cluster inside librdkafka: correct offsets, groups and watermarks; everything in memory; the
oldest records of a partition are dropped when there are many (about 85,000); no admin API, no transactions.
The port of the cluster cannot be configured, so a forwarder listens on the configured port: clients
bootstrap through it and then use the address that the cluster advertises. An empty topic with a unique name
identifies the broker, so that a client knows whether its offsets are of this one.
"""

import asyncio
import contextlib
import logging
import socket
import uuid

from confluent_kafka import Producer  # type: ignore[import-untyped] # has no types

from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment, run
from cloudmatch_bus.process.settings import variable

NAME = "analytics-broker"
EMBEDDED_PARTITIONS = 4  # of every topic
MARK = "cloudmatch.broker."  # prefix of the topic that identifies the broker
log = logging.getLogger("broker")


def start_cluster() -> tuple[Producer, str, int]:
    """Start a cluster that lives as long as the returned producer; also return its host and port."""
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 3})
    mark = f"{MARK}{uuid.uuid4().hex}"
    broker = next(iter(producer.list_topics(topic=mark, timeout=10).brokers.values()))
    return producer, broker.host, broker.port


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def forward(sock: socket.socket, host: str, port: int) -> asyncio.Server:
    """Forward every connection made to `sock` to host:port."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
        except OSError as error:
            log.warning("cluster at %s:%d unreachable: %s", host, port, error)
            writer.close()
            return
        await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))

    return await asyncio.start_server(on_connection, sock=sock)


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    sock = listen("127.0.0.1", environment[KafkaSettings].port, variable(KafkaSettings, "port"))
    producer, host, port = start_cluster()
    server = await forward(sock, host, port)
    log.info("%s listening at tcp://127.0.0.1:%d", NAME, sock.getsockname()[1])
    await stop.wait()
    server.close()
    log.info("%s stopping; %d records in flight are lost", NAME, len(producer))


def main() -> None:
    """Run the broker."""
    run(serve, KafkaSettings)
