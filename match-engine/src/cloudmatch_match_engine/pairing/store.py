"""The bucket as pairing uses it: reads from its leader, atomic writes."""

import asyncio
import random
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cloudmatch_bus.client.bucket import Bucket, Entry, Write
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    DeviceRecord,
    Tombstone,
    encode,
)
from cloudmatch_match_engine.core.keys import device_id, pair_key
from cloudmatch_match_engine.pairing.entries import device_in, tombstone_in

BACKOFF = 0.004, 0.25  # s; after a conflict, a random part: of the first, which doubles, and of the longest
ATTEMPTS = 200


class Notifier(Protocol):
    """Where pairing sends its decisions: to edges, and to the stream of facts."""

    def notify(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        """Send the edge that holds a device its new state."""

    def publish(self, fact: AnyFact, key: str) -> None:
        """Publish a fact; facts with equal `key` count once."""


class StoredDevice(NamedTuple):
    """A device as the leader has it: its record, or the tombstone of its last connection, or neither."""

    record: DeviceRecord | None
    revision: int
    tombstone: Tombstone | None = None


def device_write(record: DeviceRecord, expected: int) -> Write:
    """Put a device's record, if its key is still at `expected`."""
    return Write(device_id(record.app, record.device).key, encode(record), expected)


def tombstone_write(tombstone: Tombstone, expected: int) -> Write:
    """Put a tombstone in place of a device's record, if its key is still at `expected`."""
    return Write(device_id(tombstone.app, tombstone.device).key, None, expected, encode(tombstone))


class PairingStore:
    """Reads and writes. All that awaits raises `TimeoutError` when JetStream does not answer."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def read(self, app: str, device: str) -> StoredDevice:
        """Read a device from the leader."""
        entry = await self._bucket.get(device_id(app, device).key)
        return StoredDevice(device_in(entry), entry.revision, tombstone_in(entry))

    async def pair(self, app: str, match: int) -> Entry:
        """Read a match from the leader."""
        return await self._bucket.get(pair_key(app, match))

    async def commit(self, writes: Sequence[Write]) -> int:
        """Write all of these or none; return the revision of the last.

        Raises:
            ConflictError: a key is not at its expected revision.
        """
        return await self._bucket.commit(writes)

    async def back_off(self, attempt: int) -> None:
        """Let others go first after a conflict; longer after each further one."""
        first, longest = BACKOFF
        most = min(first * 2.0 ** min(attempt // 4, 16), longest)
        await asyncio.sleep(random.uniform(0, most))  # noqa: S311  # jitter, no secret
