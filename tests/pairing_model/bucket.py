"""A bucket in memory that commits like JetStream."""

from collections.abc import Callable, Sequence

from cloudmatch_bus.client.bucket import ConflictError, Entry, Write
from cloudmatch_bus.contract.messages import DeviceRecord, decode_device, decode_pair
from cloudmatch_match_engine.core.keys import DEVICE, PAIR
from pairing_model.steps import Call, suspended


class MemoryBucket:
    """Atomic commits with expected revisions, and the log from which mirrors are fed."""

    def __init__(self) -> None:
        self.last = 0
        self.entries: dict[str, Entry] = {}
        self.log: list[Entry] = []
        self.watcher: Callable[[], None] = lambda: None

    async def get(self, key: str) -> Entry:
        entry: Entry = await suspended(Call(lambda: self.entries.get(key, Entry(key, None, 0))))
        return entry

    async def commit(self, writes: Sequence[Write]) -> int:
        revision: int = await suspended(Call(lambda: self._commit(writes)))
        return revision

    def _commit(self, writes: Sequence[Write]) -> int:
        assert len({w.key for w in writes}) == len(writes), "a key twice in one batch"
        for write in writes:
            if self.entries.get(write.key, Entry(write.key, None, 0)).revision != write.expected:
                raise ConflictError(write.key)
        for write in writes:
            self.last += 1
            entry = self.entry(write, self.last)
            self.entries[write.key] = entry
            self.log.append(entry)
        self.watcher()
        return self.last

    @staticmethod
    def entry(write: Write, revision: int) -> Entry:
        return Entry(write.key, write.value, revision, write.tombstone)

    def devices(self) -> dict[str, tuple[DeviceRecord, int]]:
        found = {}
        for key, entry in self.entries.items():
            if key.startswith(DEVICE) and entry.value is not None:
                record = decode_device(entry.value)
                found[record.device] = record, entry.revision
        return found

    def pairs(self) -> dict[int, set[str]]:
        found = {}
        for key, entry in self.entries.items():
            if key.startswith(PAIR) and entry.value is not None:
                record = decode_pair(entry.value)
                found[record.match] = {record.device, record.peer}
        return found
