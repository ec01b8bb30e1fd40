"""Keep what is unprocessed in the embedded broker within its limits.

That broker drops the oldest records of a partition at 5 MiB. A real Kafka keeps them for an hour.
"""

from confluent_kafka import (  # type: ignore[import-untyped] # has no types
    Consumer,
    KafkaException,
    TopicPartition,
)

from cloudmatch_analytics import topics
from cloudmatch_analytics.settings import KafkaSettings

STEP = 3 * 512 * 1024  # bytes produced between two marks; at most twice as many are unprocessed
TIMEOUT = 1.0  # s of a request


class Throttle:
    """Tells the source to wait until the pipelines have committed all from before the last mark but one."""

    def __init__(self, kafka: KafkaSettings, group: str, partitions: int) -> None:
        self._consumer = Consumer(topics.client_config(kafka, **{"group.id": group}))
        self._partitions = [TopicPartition(topics.SIZES, number) for number in range(partitions)]
        # bytes since the last mark
        self._produced = 0
        # end of each partition at the last mark, and at the one before; a former source may have filled them
        self._ends = self._awaited = [self._end(each) for each in self._partitions]

    def is_due(self, length: int) -> bool:
        """Whether a mark is due before so many bytes are produced."""
        self._produced += length
        return self._produced > STEP

    def mark(self) -> None:
        """Remember how far the partitions reach. Kafka must have everything."""
        self._produced = 0
        self._awaited, self._ends = self._ends, [self._end(each) for each in self._partitions]

    def is_open(self) -> bool:
        """Whether all from before the last mark but one is committed."""
        try:
            offsets = [each.offset for each in self._consumer.committed(self._partitions, TIMEOUT)]
        except KafkaException:
            return False
        return all(offset >= end for offset, end in zip(offsets, self._awaited, strict=True) if end)

    def _end(self, partition: TopicPartition) -> int:
        try:
            return int(self._consumer.get_watermark_offsets(partition, TIMEOUT, cached=False)[1])
        except KafkaException:
            return 0
