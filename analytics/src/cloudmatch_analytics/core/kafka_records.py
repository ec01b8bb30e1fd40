"""The records in Kafka, encoded as JSON.

Topic `cloudmatch.bytes`, source → pipeline: sizes travel in *batches* of one *bucket* of senders and one
window. A sender is always in the same bucket, a bucket always in the same partition. Work per record is
thereby shared by many sizes, and the pipeline's state of a window is small: the senders of one bucket.
*Watermarks* follow the batches in each partition.

Topic `cloudmatch.windows`, pipeline → every process of analytics: `SliceSums` holds the running totals of
the senders in a batch, so that reading it twice changes nothing. `Watermark` follows all sums from before.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from cloudmatch_analytics.core.windows import BASE, sender_series
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.subjects import partition

PARTITIONS = 4  # the embedded broker creates every topic with this many
BUCKETS = 32
WATERMARK_KEY = "tick"  # of a watermark's record; the key of a batch is the number of its bucket


class Size(NamedTuple):
    """The size of one payload."""

    id: str | None  # unique to the payload and the same in every redelivery; None: unknown
    series: str  # of the sender, as `sender_series` names it
    bytes: int
    at: int  # ms since 1970


class Batch(msgspec.Struct, frozen=True):
    """Sizes of one bucket in one window."""

    produced_at: int = msgspec.field(name="told")  # ms since 1970
    sizes: list[Size]


class SliceSums(msgspec.Struct, frozen=True, tag="sums"):
    """The totals of senders in the slice that begins at `start`, by series: bytes, messages."""

    start: int  # ms since 1970
    sums: dict[str, tuple[int, int]]


class Watermark(msgspec.Struct, frozen=True, tag="tick"):
    """Event time of a partition, ms since 1970."""

    partition: int
    at: int


encode = msgspec.json.encode
decode_batch = msgspec.json.Decoder(Batch).decode
decode_result = msgspec.json.Decoder(SliceSums | Watermark).decode


def size(message: SizeMessage, arrival: int) -> Size:
    """Convert a message that arrived at `arrival` (ms since 1970).

    A time after the arrival comes from a clock that is ahead and becomes the arrival: the newest time
    closes windows for everyone. Without an id, a redelivery of the message counts again.
    """
    # ids start again with a new EVENTS stream, times do not
    identity = f"{message.message_id}/{message.at}" if message.message_id else None
    at = arrival if message.at is None else min(message.at, arrival)
    return Size(identity, sender_series(message.app, message.sender), message.size, at)


@lru_cache(100_000)
def bucket(series: str) -> int:
    """Return the bucket of a sender."""
    return partition(series) % BUCKETS


def batches(sizes: Iterable[Size]) -> dict[tuple[int, int], list[Size]]:
    """Group sizes by bucket and start of their window."""
    groups: dict[tuple[int, int], list[Size]] = {}
    for each in sizes:
        groups.setdefault((bucket(each.series), each.at - each.at % BASE), []).append(each)
    return groups
