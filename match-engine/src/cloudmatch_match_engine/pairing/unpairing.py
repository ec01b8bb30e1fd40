"""End matches and remove devices, and do what follows: unmatch the peer, notify both, search again.

The device's key and the pair's key are replaced by a tombstone. If the worker dies before it has finished,
whichever worker handles the repeated request or replays the tombstone finishes it.
"""

from collections.abc import Callable

from msgspec.structs import replace

from cloudmatch_bus.client.bucket import Write
from cloudmatch_bus.contract.messages import (
    DeviceGone,
    DeviceRecord,
    Tombstone,
    encode,
)
from cloudmatch_match_engine.core.answers import peer_away, unpaired
from cloudmatch_match_engine.core.facts import match_ended
from cloudmatch_match_engine.core.transitions import disconnected, tombstone_of, unmatched
from cloudmatch_match_engine.pairing.entries import pair_in, tombstone_in
from cloudmatch_match_engine.pairing.mirror import Mirror
from cloudmatch_match_engine.pairing.search import Search
from cloudmatch_match_engine.pairing.store import Notifier, PairingStore, device_write, tombstone_write

EXPIRED, REPLACED, UNMATCHED = "expired", "replaced", "unmatched"
SILENT = "silent"  # in tombstones only; devices and facts are told that the match expired
ENDED = UNMATCHED, SILENT  # a match whose devices are both there

EdgeIsDead = Callable[[DeviceRecord], bool]


def _never(_: DeviceRecord) -> bool:
    return False


class Unpairing:
    """Ends matches and removes devices. Every step may be repeated; a `ConflictError` is the caller's."""

    def __init__(
        self,
        store: PairingStore,
        notifier: Notifier,
        search: Search,
        mirror: Mirror,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._search = search
        self._mirror = mirror
        self._clock = clock

    async def remove(
        self,
        leaver: DeviceRecord | None,
        revision: int,
        tombstone: Tombstone,
        edge_is_dead: EdgeIsDead = _never,
    ) -> int:
        """Replace a device's key by its tombstone and end its match, atomically; then finish.

        Returns the new revision of the device's key. A peer whose edge is dead, too, is removed or
        disconnected in the same batch, so that it is not matched again.
        """
        writes = []
        if leaver is not None and leaver.match is not None and leaver.peer is not None:
            tombstone, pair = await self._end_pair(leaver, leaver.match, tombstone)
            writes.append(pair)
            peer, peer_revision, _ = await self._store.read(leaver.app, leaver.peer)
            if peer is not None and peer.match == leaver.match:
                writes.append(self._release_peer(peer, peer_revision, edge_is_dead))
        writes.insert(0, tombstone_write(tombstone, revision))
        last = await self._store.commit(writes)
        await self.finish(tombstone)
        return last - len(writes) + 1

    def _release_peer(self, peer: DeviceRecord, revision: int, edge_is_dead: EdgeIsDead) -> Write:
        free = unmatched(peer)
        if peer.disconnected_at is not None or not edge_is_dead(peer):
            return device_write(free, revision)
        if not peer.grace:
            return tombstone_write(tombstone_of(free, EXPIRED), revision)
        return device_write(disconnected(free, self._clock()), revision)

    async def _end_pair(
        self, record: DeviceRecord, match: int, tombstone: Tombstone
    ) -> tuple[Tombstone, Write]:
        """Add the pair's record to a tombstone; return it, and the write that puts it in the pair's place."""
        entry = await self._store.pair(record.app, match)
        if (pair := pair_in(entry)) is not None:
            tombstone = replace(tombstone, pair=pair)
        return tombstone, Write(entry.key, None, entry.revision, encode(tombstone))

    async def unmatch(self, record: DeviceRecord, revision: int, reason: str = UNMATCHED) -> None:
        """End a device's match; both wait again, but not for each other."""
        assert record.match is not None
        assert record.peer is not None
        tombstone, pair = await self._end_pair(record, record.match, tombstone_of(record, reason))
        peer, peer_revision, _ = await self._store.read(record.app, record.peer)
        writes = [device_write(unmatched(record, last_peer=record.peer), revision), pair]
        if peer is not None and peer.match == record.match:
            writes.append(device_write(unmatched(peer, last_peer=record.device), peer_revision))
        await self._store.commit(writes)
        await self.finish(tombstone)

    async def finish_unmatch(self, app: str, device: str, match: int) -> None:
        """Redo what follows if this match was ended for this device, which is still there."""
        tombstone = tombstone_in(await self._store.pair(app, match))
        if tombstone is not None and tombstone.device == device and tombstone.reason in ENDED:
            await self.finish(tombstone)

    async def finish(self, tombstone: Tombstone | None) -> None:
        """Do, or redo, what follows a removed device or an ended match."""
        if tombstone is None:
            return
        try:
            await self._finish(tombstone)
        except TimeoutError:
            self._mirror.retry(tombstone)
            raise

    async def _finish(self, tombstone: Tombstone) -> None:
        app, match, reason = tombstone.app, tombstone.match, tombstone.reason
        if reason == EXPIRED:
            self._notifier.notify(tombstone, DeviceGone(connection_id=tombstone.connection_id))
        if tombstone.pair is not None:
            self._search.publish_match(tombstone.pair)
        if match is None or tombstone.peer is None:
            return
        nonce = tombstone.pair.nonce if tombstone.pair is not None else ""
        told = EXPIRED if reason == SILENT else reason
        fact = match_ended(app, match, tombstone.device, tombstone.peer, told, self._clock(), nonce)
        self._notifier.publish(*fact)
        peer, revision, _ = await self._store.read(app, tombstone.peer)
        if peer is not None:
            self._notifier.notify(peer, unpaired(peer, match, told))
            self._notifier.notify(peer, await self._search.find_or_report(peer, revision))
        if reason in ENDED:
            await self._search.rematch(app, tombstone.device)

    async def disconnect(self, record: DeviceRecord, revision: int) -> None:
        """Start a device's grace, unless it runs already, and notify its peer."""
        new = disconnected(record, self._clock())
        revision = await self._store.commit([device_write(new, revision)])
        await self._search.report(new, revision, peer_away)
