"""What ends a match, and what follows: the pair goes, its devices wait again or are gone, they are told.

Whoever dies on the way leaves word of what it ended, in the place of the device and of the pair, so that
whoever is asked next, or sees the word, does again what may not have been done.
"""

from collections.abc import Callable

from msgspec.structs import replace

from cloudmatch_bus.client.bucket import Write
from cloudmatch_bus.contract.messages import (
    DeviceGone,
    DeviceRecord,
    DeviceUnpaired,
    MatchEnded,
    PeerAway,
    Tombstone,
    decode_pair,
    decode_tombstone,
    encode,
)
from cloudmatch_match_engine.core.replay import Recent
from cloudmatch_match_engine.core.transitions import again, departure, left_alone
from cloudmatch_match_engine.pairing.search import Search
from cloudmatch_match_engine.pairing.store import Registry, deleted, written

EXPIRED, REPLACED, UNMATCHED = "expired", "replaced", "unmatched"

Lost = Callable[[DeviceRecord], bool]


def nobody(_: DeviceRecord) -> bool:
    """No device's edge is dead."""
    return False


class Ending:
    """Ends matches and takes devices out. All of it may be done twice; conflicts are the caller's."""

    def __init__(self, registry: Registry, search: Search, recent: Recent, clock: Callable[[], int]) -> None:
        self._registry = registry
        self._search = search
        self._recent = recent
        self._clock = clock

    async def take_out(
        self, leaver: DeviceRecord | None, revision: int, left: Tombstone, lost: Lost = nobody
    ) -> int:
        """Delete a device's key with this word, let its peer wait, drop the pair; all or nothing.

        Gives the new revision of the device's key. Then the peer knows and has looked for another partner.
        A peer that is `lost`, too, finds nobody: it is taken out, or left alone, at the same time.
        """
        writes = []
        if leaver is not None and leaver.match is not None and leaver.peer is not None:
            left, pair = await self._word(leaver, left)
            writes.append(pair)
            peer, peer_revision, _ = await self._registry.read(leaver.app, leaver.peer)
            if peer is not None and peer.match == leaver.match:
                writes.append(self._let_go(peer, peer_revision, lost))
        writes.insert(0, deleted(left, revision))
        last = await self._registry.commit(writes)
        await self.finish(left)
        return last - len(writes) + 1

    def _let_go(self, peer: DeviceRecord, revision: int, lost: Lost) -> Write:
        if peer.disconnected_at is not None or not lost(peer):
            return written(again(peer), revision)
        if not peer.grace:
            return deleted(departure(again(peer), EXPIRED), revision)
        return written(left_alone(again(peer), self._clock()), revision)

    async def _word(self, leaver: DeviceRecord, left: Tombstone) -> tuple[Tombstone, Write]:
        """Complete the word of who ends its match; and give what puts it in the place of the pair."""
        assert leaver.match is not None
        entry = await self._registry.pair(leaver.app, leaver.match)
        if entry.value is not None:
            left = replace(left, pair=decode_pair(entry.value))
        return left, Write(entry.key, None, entry.revision, encode(left))

    async def part(self, asker: DeviceRecord, revision: int) -> None:
        """End a device's match; both wait again, but not for each other."""
        assert asker.peer is not None
        left, pair = await self._word(asker, departure(asker, UNMATCHED))
        peer, peer_revision, _ = await self._registry.read(asker.app, asker.peer)
        writes = [written(again(asker, last_peer=asker.peer), revision), pair]
        if peer is not None and peer.match == asker.match:
            writes.append(written(again(peer, last_peer=asker.device), peer_revision))
        await self._registry.commit(writes)
        await self.finish(left)

    async def finish_match(self, app: str, device: str, match: int) -> None:
        """Do again what follows when this device has parted."""
        pair = await self._registry.pair(app, match)
        left = decode_tombstone(pair.tombstone) if pair.tombstone else None
        if left is not None and (left.device, left.reason) == (device, UNMATCHED):
            await self.finish(left)

    async def finish(self, left: Tombstone | None) -> None:
        """Do, or do again, what follows when a device has left or parted."""
        if left is None:
            return
        try:
            await self._finish(left)
        except TimeoutError:
            self._recent.unfinished(left, self._clock())
            raise

    async def _finish(self, left: Tombstone) -> None:
        if left.reason == EXPIRED:
            self._registry.tell(left, DeviceGone(connection_id=left.connection_id))
        if left.pair is not None:
            self._search.tell_young(left.pair)
        if left.match is None or left.peer is None:
            return
        fact = MatchEnded(
            app=left.app,
            at=self._clock(),
            match=left.match,
            device=left.device,
            peer=left.peer,
            reason=left.reason,
        )
        self._registry.fact(fact, f"unmatched-{left.app}-{left.match}")
        peer, revision, _ = await self._registry.read(left.app, left.peer)
        if peer is not None:
            unpaired = DeviceUnpaired(connection_id=peer.connection_id, match=left.match, reason=left.reason)
            self._registry.tell(peer, unpaired)
            self._registry.tell(peer, await self._search.settle(peer, revision))
        if left.reason == UNMATCHED:
            await self._search.look_after(left.app, left.device)

    async def leave_alone(self, record: DeviceRecord, revision: int) -> None:
        """A device has no connection: its grace begins, if it has not, and its peer hears of it."""
        await self._registry.commit([written(left_alone(record, self._clock()), revision)])
        await self.tell_away(record)

    async def tell_away(self, record: DeviceRecord) -> None:
        """Let the peer of a device hear that it is away."""
        if record.match is None or record.peer is None:
            return
        await self._search.tell_made(record)
        peer, _, _ = await self._registry.read(record.app, record.peer)
        # An edge that hears of a connection that it has not says so, and that is told: to no closed one, or
        # two edges that have forgotten both would tell each other for ever.
        if peer is not None and peer.match == record.match and not peer.closed:
            away = PeerAway(
                connection_id=peer.connection_id, match=record.match, peer_connection_id=record.connection_id
            )
            self._registry.tell(peer, away)
            await self._search.remind(peer.app, peer.device)
