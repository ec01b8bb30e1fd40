"""The bucket as the pairing sees it: what the leader has, what the mirror has reached, who is told."""

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
    decode_device,
    decode_tombstone,
    encode,
)
from cloudmatch_match_engine.core.keys import device_id, pair_key
from cloudmatch_match_engine.core.roster import Roster

BACK_OFF = 0.004  # s; conflicts wait a random part of it
ATTEMPTS = 200


class Tell(Protocol):
    """How the pairing speaks to edges and to the stream of facts."""

    def edge(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        """Tell the edge that holds a device what became of it."""

    def fact(self, fact: AnyFact, key: str) -> None:
        """Publish a fact, known by `key` if it is published twice."""


class Seen(NamedTuple):
    """A device as the leader has it: its record, or none and perhaps word of who left last."""

    record: DeviceRecord | None
    revision: int
    gone: Tombstone | None = None


def written(record: DeviceRecord, expected: int) -> Write:
    """Write a device's record, if its key is still at `expected`."""
    return Write(device_id(record.app, record.device).key, encode(record), expected)


def deleted(left: Tombstone, expected: int) -> Write:
    """Delete a device's record and leave word."""
    return Write(device_id(left.app, left.device).key, None, expected, encode(left))


class Registry:
    """Reads, writes and tells. All that awaits raises `TimeoutError` where JetStream does not answer."""

    def __init__(self, bucket: Bucket, roster: Roster, tell: Tell) -> None:
        self.roster = roster
        self.tell, self.fact = tell.edge, tell.fact
        self._bucket = bucket
        # (revision, future) of those that wait for the mirror
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    async def read(self, app: str, device: str) -> Seen:
        """Read a device from the leader."""
        entry = await self._bucket.get(device_id(app, device).key)
        if entry.value is not None:
            return Seen(decode_device(entry.value), entry.revision)
        return Seen(None, entry.revision, decode_tombstone(entry.tombstone) if entry.tombstone else None)

    async def pair(self, app: str, match: int) -> Entry:
        """Read a match from the leader."""
        return await self._bucket.get(pair_key(app, match))

    async def commit(self, writes: Sequence[Write]) -> int:
        """Write all of these or none; give the revision of the last.

        Raises:
            ConflictError: something has moved on.
        """
        return await self._bucket.commit(writes)

    async def pause(self) -> None:
        """Let others go first after a conflict."""
        await asyncio.sleep(random.uniform(0, BACK_OFF))  # noqa: S311  # jitter, no secret

    async def mirror_reached(self, revision: int) -> None:
        """Wait until the mirror is right up to a revision."""
        if self.roster.reached >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        await asyncio.wait_for(future, 2)

    def mirror_moved(self) -> None:
        """The mirror has learnt something: wake those that waited for it."""
        if not self._waiters:
            return
        reached = self.roster.reached
        for revision, future in self._waiters:
            if revision <= reached and not future.done():
                future.set_result(None)
        self._waiters = [w for w in self._waiters if not w[1].done()]
