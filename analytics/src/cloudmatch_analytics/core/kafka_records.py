"""What travels through Kafka, and how it is written: JSON.

Topic `cloudmatch.bytes`, source → pipeline. Sizes travel in *batches*: all that came together, of the
senders of one *bucket* and of one window. A device is always in the same bucket, a bucket always in the
same partition. So what the pipeline does per record, it does for many sizes; and what it keeps of a
window is small, a bucket's senders. Between them *ticks*, to each partition: how far time has come.

Topic `cloudmatch.windows`, pipeline → every process of analytics. `Sums`: of the senders that a batch
spoke of, all that their window holds by now, so that hearing it twice changes nothing. `Tick`: partition
p has come so far, and all sums from before have been said.
"""

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from cloudmatch_analytics.core.sizes import Size
from cloudmatch_analytics.core.windows import BASE
from cloudmatch_bus.contract.subjects import partition

PARTITIONS = 4  # what the embedded broker gives every topic
BUCKETS = 32
TICK = "tick"  # key of a tick; those of batches are numbers


class Batch(msgspec.Struct, frozen=True):
    """Sizes of one bucket in one window."""

    told: int  # when the source passed them on, ms since 1970
    sizes: list[Size]


class Sums(msgspec.Struct, frozen=True, tag="sums"):
    """What senders exchanged in the window that begins at `start`, by sender: bytes, messages."""

    start: int
    sums: dict[str, tuple[int, int]]


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """Time in a partition, ms since 1970."""

    partition: int
    at: int


encode = msgspec.json.encode
decode_batch = msgspec.json.Decoder(Batch).decode
decode_result = msgspec.json.Decoder(Sums | Tick).decode


@lru_cache(100_000)
def bucket(key: str) -> int:
    """Give the bucket of a sender."""
    return partition(key) % BUCKETS


def batches(sizes: Iterable[Size]) -> dict[tuple[int, int], list[Size]]:
    """Put sizes together that travel together: by bucket and start of their window."""
    together: dict[tuple[int, int], list[Size]] = {}
    for size in sizes:
        together.setdefault((bucket(size.key), size.at - size.at % BASE), []).append(size)
    return together
