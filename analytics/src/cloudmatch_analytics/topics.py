"""The two topics, and how they come to be on each kind of broker."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaException, Producer  # type: ignore[import-untyped] # has no types
from pydantic import SecretStr
from quixstreams import Application
from quixstreams.kafka import ConnectionConfig
from quixstreams.models import Topic, TopicConfig, TopicManager
from quixstreams.models.topics.admin import TopicAdmin

from cloudmatch_analytics.core.kafka_records import PARTITIONS
from cloudmatch_analytics.embedded_broker import MARK
from cloudmatch_analytics.settings import KafkaSettings

SIZES = "cloudmatch.bytes"  # batches of sizes, and ticks
RESULTS = "cloudmatch.windows"  # sums of windows, and ticks
RETENTION_MS = {SIZES: 3_600_000, RESULTS: 24 * 3_600_000}


def connection(kafka: KafkaSettings) -> ConnectionConfig:
    """Say how to connect."""
    sasl = kafka.security.startswith("sasl")
    return ConnectionConfig(
        bootstrap_servers=kafka.bootstrap,
        security_protocol=kafka.security,
        sasl_mechanism=kafka.sasl_mechanism if sasl else None,
        sasl_username=kafka.sasl_user if sasl else None,
        sasl_password=SecretStr(kafka.sasl_password) if sasl else None,
        ssl_ca_location=kafka.ca_file or None,
    )


def client(kafka: KafkaSettings, **more: object) -> dict[str, object]:
    """Give the configuration of a client of librdkafka."""
    return {**connection(kafka).as_librdkafka_dict(), "log_level": 3, **more}


def config(topic: str, replication: int) -> TopicConfig:
    """Describe a topic as it is created on a real Kafka."""
    return TopicConfig(
        num_partitions=PARTITIONS,
        replication_factor=replication,
        extra_config={"retention.ms": str(RETENTION_MS[topic]), "retention.bytes": "-1"},
    )


def declare(app: Application, replication: int) -> tuple[Topic, Topic]:
    """Create both topics where they are not, and give them."""
    found = []
    for name in (SIZES, RESULTS):
        topic = app.topic(
            name,
            key_serializer="str",
            key_deserializer="str",
            value_serializer="bytes",
            value_deserializer="bytes",
            config=config(name, replication),
        )
        if (partitions := topic.broker_config.num_partitions) != PARTITIONS:
            sys.exit(f"topic {name} has {partitions} partitions and must have {PARTITIONS}")
        found.append(topic)
    return found[0], found[1]


def identity(kafka: KafkaSettings, timeout: float) -> str | None:
    """Name the cluster, unlike any other; None when it does not answer within `timeout` seconds."""
    try:
        answer = Producer(client(kafka, log_level=0)).list_topics(timeout=timeout)
    except KafkaException:
        return None
    if kafka.embedded:
        return next((name for name in answer.topics if name.startswith(MARK)), "")
    return str(answer.cluster_id)


class Leash:
    """Notices at once when a broker's process ends, by a connection on which nothing is said."""

    def __init__(self, bootstrap: str, broken: Callable[[], object]) -> None:
        self._bootstrap = bootstrap
        self._broken = broken
        threading.Thread(target=self._hold, name="leash", daemon=True).start()

    def _hold(self) -> None:
        host, _, port = self._bootstrap.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as held:
            held.recv(1)
        self._broken()


class EmbeddedTopicAdmin(TopicAdmin):
    """Topics of a broker without an admin API: asking for one's metadata creates it."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self._bootstrap = bootstrap

    def _metadata(self, topic: str | None, timeout: float) -> dict[str, Any]:
        asking = Producer({"bootstrap.servers": self._bootstrap, "log_level": 0})
        arguments = {} if topic is None else {"topic": topic}
        topics: dict[str, Any] = asking.list_topics(timeout=timeout, **arguments).topics
        return topics

    def list_topics(self, timeout: float = -1) -> dict[str, Any]:
        """Give the topics there are, by name."""
        return self._metadata(None, timeout)

    def create_topics(
        self, topics: Iterable[Topic], timeout: float = 30, finalize_timeout: float = 60
    ) -> None:
        """Create topics; the broker decides on their partitions."""
        for topic in topics:
            self._metadata(topic.name, timeout)

    def inspect_topics(
        self, topic_names: Iterable[str], timeout: float = 30
    ) -> dict[str, TopicConfig | None]:
        """Give the configuration of each topic, None where there is none."""
        known = self._metadata(None, timeout)
        return {name: self._describe(known.get(name)) for name in topic_names}

    @staticmethod
    def _describe(metadata: Any) -> TopicConfig | None:
        if metadata is None or not metadata.partitions:
            return None
        return TopicConfig(
            num_partitions=len(metadata.partitions),
            replication_factor=1,
            extra_config={"retention.ms": "-1", "retention.bytes": "-1"},
        )


def manager(kafka: KafkaSettings, group: str) -> TopicManager:
    """Make the topic manager that fits the broker."""
    admin = EmbeddedTopicAdmin(kafka.bootstrap) if kafka.embedded else TopicAdmin(connection(kafka))
    return TopicManager(topic_admin=admin, consumer_group=group)
