"""The records in Kafka, encoded as JSON.

Topic `cloudmatch.bytes`, source → pipeline:

- `Batches`: the sums of batches of sizes, added up per batch and sender. A batch is always in the same
  partition, which therefore knows whether it was counted.
- `Singles`: sizes that RabbitMQ carries one by one. They travel in groups of one *bucket* of senders; a
  sender is always in the same bucket, a bucket always in the same partition.
- `Forget` names a sender to forget.
- Watermarks follow the sizes in each partition.

A record is of one slice, so that work per record is shared by many sizes.

Topic `cloudmatch.windows`, pipeline → every process of analytics: `Added` holds what a record adds to the
sums of senders, and where the record was, so that reading it twice changes nothing. `Forget` comes as it
was. `SliceSums` of former
versions holds running totals. `Watermark` follows all sums from before.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, NamedTuple
from zlib import crc32

import msgspec

from cloudmatch_analytics.core.windows import BASE, MAX_SUM, saturated, sender_series
from cloudmatch_bus.contract.amqp import DEFAULT_APP, SizeMessage, UnreadableError
from cloudmatch_bus.contract.amqp_batches import SizesBatch, Time
from cloudmatch_bus.contract.amqp_forgotten import Forgotten
from cloudmatch_bus.contract.subjects import partition

BUCKETS = 32
# keys of records; that of `Singles` is the number of the bucket
WATERMARK_KEY = "tick"
BATCHES_KEY = "batches"
FORGET_KEY = "forget"
MAX_RECORD = 128 * 1024  # bytes of `Batches` and `Singles`, about
MAX_NAME = 500  # characters of an app, or of a device; edges take 64
MAX_GROUP = 64  # batches with successive numbers that are neighbours in a partition, and may share a record
SUM = 40  # bytes of a sum in a record without its series, at most

Sent = Mapping[str, tuple[int, int]]  # bytes and payloads by sender's series
Natural = Annotated[int, msgspec.Meta(ge=0, le=MAX_SUM)]  # what SQLite can hold


class Size(NamedTuple):
    """The size of one payload."""

    id: str | None  # unique to the payload and the same in every redelivery; None: unknown
    series: str  # of the sender, as `sender_series` names it
    bytes: Natural
    at: Time  # ms since 1970


class Singles(msgspec.Struct, frozen=True):
    """Sizes of one bucket in one slice."""

    produced_at: int = msgspec.field(name="told")  # ms since 1970
    sizes: Annotated[list[Size], msgspec.Meta(min_length=1)]


class BatchSums(NamedTuple):
    """What the senders in a batch of sizes have sent; of a very long batch a part, with an id of its own."""

    id: str | None  # the same in every redelivery; None: unknown
    at: Time  # ms since 1970, also if it lies in the future
    sums: dict[str, tuple[Natural, Natural]]  # bytes and payloads, by the sender's series


class Batches(msgspec.Struct, frozen=True):
    """Batches in the slice that begins at `start`. Times: ms since 1970."""

    produced_at: int
    start: Time
    batches: list[BatchSums]


class Added(msgspec.Struct, frozen=True, tag="added"):
    """What a record adds to the sums of senders in the slice that begins at `start`."""

    log: str  # names the topic that the record is in: another one begins with offset 0 again
    partition: Natural
    offset: Natural  # of the record
    start: Time  # ms since 1970
    sums: dict[str, tuple[Natural, Natural]]  # bytes and payloads, by series


class SliceSums(msgspec.Struct, frozen=True, tag="sums"):
    """The totals of senders in the slice that begins at `start`, by series: bytes, payloads."""

    start: Time  # ms since 1970
    sums: dict[str, tuple[Natural, Natural]]


class Watermark(msgspec.Struct, frozen=True, tag="tick"):
    """Event time of a partition, ms since 1970."""

    partition: int
    at: Time


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """What a sender has sent up to a time is an unknown sender's from now on, whenever it comes."""

    series: Annotated[str, msgspec.Meta(pattern=r"^[^.]+\.[^.]+$")]
    at: Time


Result = Added | SliceSums | Watermark | Forget

encode = msgspec.json.encode
decode_singles = msgspec.json.Decoder(Singles).decode
decode_batches = msgspec.json.Decoder(Batches).decode
decode_forget = msgspec.json.Decoder(Forget).decode
decode_result = msgspec.json.Decoder(Result).decode


def size(message: SizeMessage, arrival: int) -> Size:
    """Convert a message that arrived at `arrival` (ms since 1970).

    A time after the arrival comes from a clock that is ahead and becomes the arrival: the newest time
    closes windows for everyone. Without an id, a redelivery of the message counts again.

    Raises:
        UnreadableError: a name is too long.
    """
    # ids start again with a new EVENTS stream, times do not
    identity = f"{message.message_id}/{message.at}" if message.message_id else None
    at = arrival if message.at is None else min(message.at, arrival)
    return Size(identity, _series(message.app, message.sender), message.size, at)


def forget(message: Forgotten, arrival: int) -> Forget:
    """Convert a message that arrived at `arrival` (ms since 1970); what is yet to come is not forgotten.

    Raises:
        UnreadableError: a name is too long.
    """
    return Forget(_series(message.app or DEFAULT_APP, message.device), min(message.at, arrival))


def _series(app: str, device: str) -> str:
    if len(app) > MAX_NAME or len(device) > MAX_NAME:
        raise UnreadableError(f"an app or a device has more than {MAX_NAME} characters")
    return sender_series(app, device)


@lru_cache(100_000)
def bucket(series: str) -> int:
    """Return the bucket of a sender."""
    return partition(series) % BUCKETS


def singles(sizes: Iterable[Size]) -> Iterator[tuple[int, list[Size]]]:
    """Group sizes by bucket and slice, such that each group fits into a record; yield buckets and groups."""
    groups: dict[tuple[int, int], list[Size]] = {}
    lengths: dict[tuple[int, int], int] = {}
    for each in sizes:
        key = bucket(each.series), each.at - each.at % BASE
        length = len(each.series) + len(each.id or "") + 2 * SUM
        if lengths.get(key, 0) + length > MAX_RECORD:
            yield key[0], groups.pop(key)
            lengths[key] = 0
        lengths[key] = lengths.get(key, 0) + length
        groups.setdefault(key, []).append(each)
    for (number, _), group in groups.items():
        yield number, group


def batch_sums(message_id: str | None, batch: SizesBatch) -> Iterator[BatchSums]:
    """Add up a batch by sender; a batch that is too long for a record yields several parts.

    Raises:
        UnreadableError: a name is too long.
    """
    app = batch.app or DEFAULT_APP
    sums: dict[str, tuple[int, int]] = {}
    for span in batch.spans:
        series = _series(app, span.sender)
        if known := sums.get(series):
            sums[series] = saturated(known[0] + span.bytes), known[1] + span.payloads
        else:
            sums[series] = span.bytes, span.payloads
    identity = f"{message_id}/{batch.at}" if message_id else None
    for number, part in enumerate(_parts(sums)):
        yield BatchSums(f"{identity}#{number}" if identity and number else identity, batch.at, part)


def _parts(sums: dict[str, tuple[int, int]]) -> Iterator[dict[str, tuple[int, int]]]:
    """Split sums such that each part fits into a record."""
    if sum(map(len, sums)) + SUM * len(sums) <= MAX_RECORD:
        yield sums
        return
    part: dict[str, tuple[int, int]] = {}
    length = 0
    for series, sent in sums.items():
        length += len(series) + SUM
        if part and length > MAX_RECORD:
            yield part
            part, length = {}, len(series) + SUM
        part[series] = sent
    yield part


def partition_of(message_id: str | None, partitions: int) -> int:
    """Return the partition of a batch: that of every redelivery, as it depends on nothing but the id."""
    if not message_id:
        return 0
    source, _, number = message_id.rpartition(".")
    if not number.isdecimal():
        source, number = message_id, "0"
    return (crc32(source.encode()) + int(number)) // MAX_GROUP % partitions


def group_encoded(
    produced_at: int, batches: Iterable[tuple[int, int, BatchSums]]
) -> Iterator[tuple[int, int, bytes]]:
    """Pack batches into records.

    Args:
        batches: of each the partition, the start of its slice, and its sums.

    Yields:
        (partition, start of the slice, encoded `Batches`) of each record.
    """
    groups: dict[tuple[int, int], list[msgspec.Raw]] = {}
    lengths: dict[tuple[int, int], int] = {}
    for number, start, sums in batches:
        key, encoded = (number, start), encode(sums)
        if (length := lengths.get(key, 0) + len(encoded)) > MAX_RECORD and key in groups:
            yield number, start, _record(produced_at, start, groups.pop(key))
            length = len(encoded)
        lengths[key] = length
        groups.setdefault(key, []).append(msgspec.Raw(encoded))
    for (number, start), group in groups.items():
        yield number, start, _record(produced_at, start, group)


def _record(produced_at: int, start: int, batches: list[msgspec.Raw]) -> bytes:
    return encode({"produced_at": produced_at, "start": start, "batches": batches})
