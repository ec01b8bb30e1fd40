"""A bucket in memory that commits like JetStream."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from cloudmatch_bus.client.bucket import ConflictError, Entry, Write
from cloudmatch_bus.contract.messages import DeviceRecord, decode_device, decode_pair
from cloudmatch_match_engine.core.keys import DEVICE, PAIR
from simulation.steps import Call, suspended

T = TypeVar("T")
TIMEOUT = 2.0  # s


class MemoryBucket:
    """Atomic commits with expected revisions, and the log from which mirrors are fed."""

    def __init__(self) -> None:
        self.last = 0
        self.entries: dict[str, Entry] = {}
        self.log: list[Entry] = []
        self.on_commit: list[Callable[[], None]] = []

    def read(self, key: str) -> Entry:
        """The newest entry of a key."""
        return self.entries.get(key, Entry(key, None, 0))

    def write(self, writes: Sequence[Write]) -> int:
        """Write all of these or none; return the last revision."""
        assert len({w.key for w in writes}) == len(writes), "a key twice in one batch"
        for write in writes:
            if self.read(write.key).revision != write.expected:
                raise ConflictError(write.key)
        for write in writes:
            self.last += 1
            entry = Entry(write.key, write.value, self.last, write.tombstone)
            self.entries[write.key] = entry
            self.log.append(entry)
        for callback in self.on_commit:
            callback()
        return self.last

    def devices(self) -> dict[str, tuple[DeviceRecord, int]]:
        """Record and revision of each device."""
        found = {}
        for key, entry in self.entries.items():
            if key.startswith(DEVICE) and entry.value is not None:
                record = decode_device(entry.value)
                found[record.device] = record, entry.revision
        return found

    def pairs(self) -> dict[int, set[str]]:
        """The two devices of each match."""
        found = {}
        for key, entry in self.entries.items():
            if key.startswith(PAIR) and entry.value is not None:
                record = decode_pair(entry.value)
                found[record.match] = {record.device, record.peer}
        return found


class SteppedBucket(MemoryBucket):
    """A bucket whose calls are carried out and answered when the schedule decides."""

    async def get(self, key: str) -> Entry:
        entry: Entry = await suspended(Call(lambda: self.read(key)))
        return entry

    async def commit(self, writes: Sequence[Write]) -> int:
        revision: int = await suspended(Call(lambda: self.write(writes)))
        return revision


class TimedBucket(MemoryBucket):
    """A bucket whose calls take virtual time; while `failing`, some time out, carried out or not."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.failing = False
        self.chance = chance

    async def get(self, key: str) -> Entry:
        return await self._answer(lambda: self.read(key))

    async def commit(self, writes: Sequence[Write]) -> int:
        return await self._answer(lambda: self.write(writes))

    async def _answer(self, call: Callable[[], T]) -> T:
        chance = self.chance
        lost = self.failing and chance.random() < 0.02
        await asyncio.sleep(chance.random() * 0.001)
        if lost and chance.random() < 0.5:
            await asyncio.sleep(TIMEOUT)
            raise TimeoutError("no answer, not carried out")
        outcome = call()
        await asyncio.sleep(TIMEOUT if lost else chance.random() * 0.001)
        if lost:
            raise TimeoutError("no answer, but carried out")
        return outcome


class CommitChecker:
    """At every commit: a device is in at most one match, and a match has both its devices."""

    def __init__(self, bucket: MemoryBucket) -> None:
        self._bucket = bucket
        self.ever_paired: dict[int, set[str]] = {}

    def check(self) -> None:
        """Check the bucket as it is now."""
        devices, pairs = self._bucket.devices(), self._bucket.pairs()
        members: dict[int, set[str]] = {}
        for name, (record, _) in devices.items():
            if record.match is not None:
                members.setdefault(record.match, set()).add(name)
                assert record.peer is not None
                assert devices[record.peer][0].peer == name
        assert members == pairs
        assert all(len(m) == 2 for m in pairs.values())
        for match, both in pairs.items():
            if match not in self.ever_paired:
                assert all(devices[name][0].disconnected_at is None for name in both), (
                    "one of them is disconnected"
                )
            assert self.ever_paired.setdefault(match, both) == both, "a number named two matches"
