"""Find a partner and claim it; say where a device stands.

Write, then look: a device is first written as waiting, at revision r; then those that began to wait
before r are looked at in the mirror, once that has reached r. The younger claims the older, with one
atomic batch over both devices and the pair, each at the revision it was seen at. A device that is
written again while it waits looks again.
"""

from collections.abc import Callable

from cloudmatch_bus.client.bucket import ConflictError, Write
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceRecord,
    DeviceWaiting,
    MatchMade,
    PairRecord,
    PeerReturned,
    decode_pair,
    encode,
)
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.keys import pair_key
from cloudmatch_match_engine.core.replay import REMEMBERED
from cloudmatch_match_engine.core.transitions import age, missing, paired, standing
from cloudmatch_match_engine.pairing.reservations import Reservations
from cloudmatch_match_engine.pairing.store import ATTEMPTS, Registry, written


class Search:
    """Looks for partners. `clock` gives ms since 1970; `reach`: degrees, for devices without a radius."""

    def __init__(self, registry: Registry, clock: Callable[[], int], reach: float) -> None:
        self._registry = registry
        self._clock = clock
        self._reach = reach
        self._reservations = Reservations(registry.roster)

    async def settle(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """A device is to know where it stands. Do, too, what a dead worker may have left undone."""
        if record.match is None:
            return await self._find(record, revision)
        await self.tell_made(record)
        if record.peer is not None:
            await self.remind(record.app, record.peer)
        return await self.stand(record, revision)

    async def stand(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """Say where a device stands, with its peer as the leader has it."""
        for _ in range(ATTEMPTS):
            if record.match is None or record.peer is None:
                return standing(record, revision)
            peer, _, _ = await self._registry.read(record.app, record.peer)
            if peer is not None and peer.match == record.match:
                return standing(record, revision, peer)
            # The match has ended between the two reads.
            now, revision, _ = await self._registry.read(record.app, record.device)
            if now is None or age(now) != age(record):
                return missing(record, now)
            record = now
        raise TimeoutError(f"{record.app}/{record.device} never stood still")

    async def remind(self, app: str, device: str) -> None:
        """Tell a device's edge where it stands."""
        record, revision, _ = await self._registry.read(app, device)
        if record is not None:
            self._registry.tell(record, await self.stand(record, revision))

    async def tell_returned(self, record: DeviceRecord) -> None:
        """Tell the peer's edge, if the device is in a match, where its connection is now."""
        if record.match is None or record.peer is None:
            return
        peer, _, _ = await self._registry.read(record.app, record.peer)
        if peer is not None and peer.match == record.match:
            returned = PeerReturned(
                connection_id=peer.connection_id,
                match=record.match,
                peer_edge=record.edge,
                peer_connection_id=record.connection_id,
            )
            self._registry.tell(peer, returned)

    async def look_after(self, app: str, device: str) -> None:
        """A device's match is over: look for another partner, and tell its edge where it then stands."""
        record, revision, _ = await self._registry.read(app, device)
        if record is not None:
            self._registry.tell(record, await self.settle(record, revision))

    async def tell_made(self, record: DeviceRecord) -> None:
        """Publish again that a young match was made: who made it may have died."""
        assert record.match is not None
        entry = await self._registry.pair(record.app, record.match)
        if entry.value is not None:
            self.tell_young(decode_pair(entry.value))

    def tell_young(self, pair: PairRecord) -> None:
        """Publish that a match was made, unless that is long ago."""
        if self._clock() - pair.at >= REMEMBERED:
            return
        fact = MatchMade(
            app=pair.app,
            at=pair.at,
            match=pair.match,
            device=pair.device,
            peer=pair.peer,
            distance=pair.distance,
        )
        self._registry.fact(fact, f"matched-{pair.app}-{pair.match}")

    async def _find(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """Look for a partner of a device that waits since `revision`; say where it then stands."""
        registry = self._registry
        for _ in range(ATTEMPTS):
            if record.disconnected_at is not None:
                return DeviceWaiting(connection_id=record.connection_id, since=revision)
            await registry.mirror_reached(revision)
            found = None
            if (mine := self._reservations.of(record)) is not None:
                await mine.decided()
            else:
                others = list(registry.roster.waiting(record.app, record.tag).near(record))
                free = [known for known in others if self._reservations.of(known.record) is None]
                found = matcher.choose(record, free, revision, self._reach)
                if found is None:
                    taken = matcher.choose(record, others, revision, self._reach)
                    if taken is None:
                        return standing(record, revision)
                    await self._outcome(taken[0])
                    continue
                try:
                    return await self._claim(record, revision, *found)
                except ConflictError:
                    await registry.pause()
            now, now_revision, _ = await registry.read(record.app, record.device)
            if now is None or age(now) != age(record):
                return missing(record, now)
            if now.match is not None:  # a younger one was faster
                return await self.stand(now, now_revision)
            if now_revision == revision and found is not None:
                # The candidate is what moved: look again once the mirror knows how.
                _, moved, _ = await registry.read(found[0].app, found[0].device)
                await registry.mirror_reached(moved)
            record, revision = now, now_revision
        raise TimeoutError(f"{record.app}/{record.device} was never fast enough")

    async def _outcome(self, taken: DeviceRecord) -> None:
        """Wait until the mirror knows whether a device is paired that another task is about to pair."""
        claim = self._reservations.of(taken)
        if claim is not None:
            await claim.decided()
            await self._registry.mirror_reached(claim.revision)

    async def _claim(
        self, record: DeviceRecord, revision: int, other: DeviceRecord, other_revision: int
    ) -> AnyAnswer:
        metres = matcher.distance(record, other)
        mine = paired(record, other, revision, metres)
        theirs = paired(other, record, revision, metres)
        pair = PairRecord(
            app=record.app,
            match=revision,
            device=record.device,
            peer=other.device,
            at=self._clock(),
            distance=metres,
        )
        writes = [
            written(theirs, other_revision),
            written(mine, revision),
            Write(pair_key(record.app, revision), encode(pair), 0),
        ]
        with self._reservations.claim(record, other) as claim:
            last = claim.revision = await self._registry.commit(writes)
        self.tell_young(pair)
        self._registry.tell(theirs, standing(theirs, last, mine))
        self._registry.tell(mine, answer := standing(mine, last, theirs))
        return answer
