"""The one topic between source and pipeline, and how it comes to be on each kind of broker."""

import contextlib
import socket
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # type: ignore[import-untyped] # has no types

with warnings.catch_warnings(record=True):  # Quix' registry client, unused here, warns of what it stands on
    from quixstreams.models import Topic, TopicConfig, TopicManager
    from quixstreams.models.topics.admin import TopicAdmin

from cloudmatch_analytics.broker import MARK

SIZES = "cloudmatch.bytes"  # one record a payload, keyed by sender
PARTITIONS = 4  # what the embedded broker gives every topic
RETENTION_MS = 3_600_000


def config(replication: int) -> TopicConfig:
    """Describe the topic as it is created on a real Kafka."""
    return TopicConfig(
        num_partitions=PARTITIONS,
        replication_factor=replication,
        extra_config={"retention.ms": str(RETENTION_MS), "retention.bytes": "-1"},
    )


def reachable(bootstrap: str, timeout: float) -> bool:
    """Tell whether a broker answers within `timeout` seconds."""
    try:
        Producer({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=timeout)
    except KafkaException:
        return False
    return True


def mark(bootstrap: str) -> str:
    """Give the name of the topic that marks this embedded broker among all others."""
    topics = EmbeddedTopicAdmin(bootstrap).list_topics(10)
    return next((name for name in topics if name.startswith(MARK)), "")


def rewind(bootstrap: str, group: str) -> None:
    """Let a group that has no members begin with the first record of `SIZES`."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    starts = [TopicPartition(SIZES, partition, 0) for partition in range(PARTITIONS)]
    consumer.commit(offsets=starts, asynchronous=False)
    consumer.close()


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


def manager(bootstrap: str, group: str, embedded: bool) -> TopicManager:
    """Make the topic manager that fits the broker."""
    admin = EmbeddedTopicAdmin(bootstrap) if embedded else TopicAdmin(bootstrap)
    return TopicManager(topic_admin=admin, consumer_group=group)
