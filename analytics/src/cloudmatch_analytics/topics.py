"""The two topics, and how they are created on either kind of broker."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import (  # type: ignore[import-untyped] # has no types
    KafkaException,
    Producer,
    TopicCollection,
)
from confluent_kafka.admin import AdminClient  # type: ignore[import-untyped] # has no types
from pydantic import SecretStr
from quixstreams import Application
from quixstreams.kafka import ConnectionConfig
from quixstreams.models import Topic, TopicConfig, TopicManager
from quixstreams.models.topics.admin import TopicAdmin

from cloudmatch_analytics.embedded_broker import MARK
from cloudmatch_analytics.settings import AnalyticsSettings, KafkaSettings
from cloudmatch_bus.process.settings import variable

SIZES = "cloudmatch.bytes"  # sizes, and watermarks
RESULTS = "cloudmatch.windows"  # what they add to sums, and watermarks
CHANGELOG = "changelog__analytics--cloudmatch.bytes--default"  # of the pipeline's state, as Quix names it
REQUEST_TIMEOUT = 10.0  # s
RETENTION_MS = {SIZES: 3_600_000, RESULTS: 24 * 3_600_000}


def connection_config(kafka: KafkaSettings) -> ConnectionConfig:
    """Return Quix's configuration of a connection."""
    sasl = kafka.security.startswith("sasl")
    return ConnectionConfig(
        bootstrap_servers=kafka.bootstrap,
        security_protocol=kafka.security,
        sasl_mechanism=kafka.sasl_mechanism if sasl else None,
        sasl_username=kafka.sasl_user if sasl else None,
        sasl_password=SecretStr(kafka.sasl_password) if sasl else None,
        ssl_ca_location=kafka.ca_file or None,
    )


def client_config(kafka: KafkaSettings, **more: object) -> dict[str, object]:
    """Return librdkafka's configuration of a client."""
    return {**connection_config(kafka).as_librdkafka_dict(), "log_level": 3, **more}


def topic_config(topic: str, partitions: int, replication: int) -> TopicConfig:
    """Return the configuration with which a real Kafka creates a topic."""
    return TopicConfig(
        num_partitions=partitions,
        replication_factor=replication,
        extra_config={"retention.ms": str(RETENTION_MS[topic]), "retention.bytes": "-1"},
    )


def declare(app: Application, partitions: int, replication: int) -> tuple[Topic, Topic]:
    """Create both topics unless they exist, and return them."""
    return _declare(app, SIZES, partitions, replication), _declare(app, RESULTS, partitions, replication)


def _declare(app: Application, name: str, partitions: int, replication: int) -> Topic:
    topic = app.topic(
        name,
        key_serializer="str",
        key_deserializer="str",
        value_serializer="bytes",
        value_deserializer="bytes",
        config=topic_config(name, partitions, replication),
    )
    if (actual := topic.broker_config.num_partitions) != partitions:
        sys.exit(describe_mismatch(name, actual, partitions))
    return topic


def describe_mismatch(topic: str, actual: int | None, wanted: int) -> str:
    """Return the error for a topic with another number of partitions than the setting; it says what to do."""
    setting = variable(AnalyticsSettings, "partitions")
    error = f"{setting}={wanted}, but topic {topic} has {actual} partitions. Set {setting}={actual}"
    if actual is None or actual > wanted:
        return error
    return (
        f"{error}; or, to have more, stop all instances and run kafka-topics.sh --alter "
        f"--partitions {wanted} for each of the topics {SIZES}, {RESULTS} and {CHANGELOG}"
    )


def broker_identity(kafka: KafkaSettings, timeout: float) -> str | None:
    """Return a name that only this cluster has, or None if it does not answer within `timeout` seconds."""
    try:
        answer = Producer(client_config(kafka, log_level=0)).list_topics(timeout=timeout)
    except KafkaException:
        return None
    if kafka.embedded:
        return next((name for name in answer.topics if name.startswith(MARK)), "")
    return str(answer.cluster_id)


def identity(kafka: KafkaSettings, broker: str, topic: str) -> str:
    """Return a name that only this topic of a broker has, and no other that is created in its place."""
    if kafka.embedded:
        return broker
    admin = AdminClient(client_config(kafka))
    (answer,) = admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_TIMEOUT).values()
    return f"{broker}/{answer.result().topic_id}"


class BrokerWatch:
    """Detects at once that a broker's process has ended, by an idle connection to it."""

    def __init__(self, bootstrap: str, on_lost: Callable[[], object]) -> None:
        self._bootstrap = bootstrap
        self._on_lost = on_lost
        threading.Thread(target=self._watch, name="broker-watch", daemon=True).start()

    def _watch(self) -> None:
        host, _, port = self._bootstrap.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as connection:
            connection.recv(1)
        self._on_lost()


class EmbeddedTopicAdmin(TopicAdmin):
    """Topics of a broker without an admin API: requesting the metadata of a topic creates it."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self._bootstrap = bootstrap

    def _metadata(self, topic: str | None, timeout: float) -> dict[str, Any]:
        client = Producer({"bootstrap.servers": self._bootstrap, "log_level": 0})
        arguments = {} if topic is None else {"topic": topic}
        topics: dict[str, Any] = client.list_topics(timeout=timeout, **arguments).topics
        return topics

    def list_topics(self, timeout: float = -1) -> dict[str, Any]:
        """Return the existing topics, by name."""
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
        """Return the configuration of each topic, None for one that does not exist."""
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


def topic_manager(kafka: KafkaSettings, group: str) -> TopicManager:
    """Return the topic manager for the kind of broker."""
    admin = EmbeddedTopicAdmin(kafka.bootstrap) if kafka.embedded else TopicAdmin(connection_config(kafka))
    return TopicManager(topic_admin=admin, consumer_group=group)
