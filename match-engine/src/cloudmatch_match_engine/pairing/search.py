"""Find a peer and claim it; report a device's state.

Write, then search: a device is first written as waiting, at revision r; then devices that began to wait
before r are searched in the mirror, once that has reached r. The younger device claims the older one with one
atomic batch over both devices and the pair, each at the revision at which it was read. A device that is
written again while it waits searches again.
"""

import secrets
from collections.abc import Callable

from cloudmatch_bus.client.bucket import ConflictError, Write
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceRecord,
    DeviceWaiting,
    PairRecord,
    encode,
)
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.answers import gone_or_replaced, peer_returned, state_of
from cloudmatch_match_engine.core.distances import Told, told
from cloudmatch_match_engine.core.facts import HALF, match_made
from cloudmatch_match_engine.core.keys import pair_key
from cloudmatch_match_engine.core.transitions import is_same, pair_of, paired
from cloudmatch_match_engine.pairing.entries import pair_in
from cloudmatch_match_engine.pairing.mirror import Mirror
from cloudmatch_match_engine.pairing.reservations import Reservations
from cloudmatch_match_engine.pairing.store import ATTEMPTS, Notifier, PairingStore, device_write

Candidate = tuple[DeviceRecord, int]  # and the revision at which it was read


class Search:
    """Searches for peers.

    Args:
        clock: ms since 1970.
        reach: degrees, for devices without a radius.
        distance: how it is told.
    """

    def __init__(
        self,
        store: PairingStore,
        mirror: Mirror,
        notifier: Notifier,
        clock: Callable[[], int],
        reach: float,
        distance: Told,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._notifier = notifier
        self._clock = clock
        self._reach = reach
        self._distance: Told = distance
        self._reservations = Reservations(mirror.roster)

    async def find_or_report(
        self, record: DeviceRecord, revision: int, *, returned: bool = False
    ) -> AnyAnswer:
        """Find a peer for a waiting device, or redo what follows its match; return its state.

        The worker that made the match may have died before it notified anyone. `returned`: with a new
        connection, of which the peer is to be notified.
        """
        if record.match is None:
            return await self._find(record, revision)
        return await self.report(record, revision, peer_returned if returned else None)

    async def report(
        self,
        record: DeviceRecord,
        revision: int,
        news: Callable[[DeviceRecord, DeviceRecord, int, int], AnyAnswer] | None = None,
    ) -> AnyAnswer:
        """Notify the peer of a device, if it has one, of its state and of `news`; return the device's state.

        Not a peer whose connection has ended: its edge does not have it any more, and a newer one asks.
        """
        if record.match is not None and record.peer is not None:
            await self._republish_match(record)
            peer, peer_revision, _ = await self._store.read(record.app, record.peer)
            if peer is not None and peer.match == record.match:
                if not peer.closed:
                    if news is not None:
                        self._notifier.notify(peer, news(peer, record, record.match, revision))
                    self._notifier.notify(peer, state_of(peer, peer_revision, record, revision))
                return state_of(record, revision, peer, peer_revision)
        return await self.current_state(record, revision)

    async def current_state(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """Describe a device, with its peer as the leader has it."""
        for _ in range(ATTEMPTS):
            if record.match is None or record.peer is None:
                return state_of(record, revision)
            peer, peer_revision, _ = await self._store.read(record.app, record.peer)
            if peer is not None and peer.match == record.match:
                return state_of(record, revision, peer, peer_revision)
            # The match has ended between the two reads.
            now, revision, _ = await self._store.read(record.app, record.device)
            if now is None or not is_same(now, record):
                return gone_or_replaced(record, now)
            record = now
        raise TimeoutError(f"{record.app}/{record.device} changed with every read")

    async def resend_state(self, app: str, device: str) -> None:
        """Notify a device's edge of its state."""
        record, revision, _ = await self._store.read(app, device)
        if record is not None:
            self._notifier.notify(record, await self.current_state(record, revision))

    async def rematch(self, app: str, device: str) -> None:
        """Find another peer for a device whose match has ended, and notify its edge."""
        record, revision, _ = await self._store.read(app, device)
        if record is not None:
            self._notifier.notify(record, await self.find_or_report(record, revision))

    async def _republish_match(self, record: DeviceRecord) -> None:
        """Publish again that a device's match was made: the worker that made it may have died."""
        assert record.match is not None
        if not self._mirror.is_recent(record.match):
            return
        pair = pair_in(await self._store.pair(record.app, record.match))
        if pair is not None:
            self.publish_match(pair)

    def publish_match(self, pair: PairRecord) -> None:
        """Publish that a match was made, unless JetStream may no longer recognize the fact."""
        if self._mirror.is_recent(pair.match):
            self._notifier.publish(*match_made(pair))

    async def _find(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """Search until a device that waits since `revision` is matched or nobody suits it."""
        for attempt in range(ATTEMPTS):
            if record.disconnected_at is not None:
                return DeviceWaiting(connection_id=record.connection_id, since=revision)
            await self._mirror.wait_for(revision)
            candidate = None
            if (claim := self._reservations.of(record)) is not None:
                await claim.decided()
            elif (candidate := self._choose(record, revision)) is None:
                return state_of(record, revision)
            elif (claim := self._reservations.of(candidate[0])) is not None:
                await claim.decided()
                await self._mirror.wait_for(claim.revision)
                continue
            else:
                try:
                    return await self._claim(record, revision, *candidate)
                except ConflictError:
                    await self._store.back_off(attempt)
            now, now_revision, _ = await self._store.read(record.app, record.device)
            if now is None or not is_same(now, record):
                return gone_or_replaced(record, now)
            if now.match is not None:  # a younger device was faster
                return await self.current_state(now, now_revision)
            if candidate is not None and now_revision == revision:
                await self._wait_for_change(candidate[0])
            record, revision = now, now_revision
        raise TimeoutError(f"{record.app}/{record.device} lost every conflict")

    def _choose(self, record: DeviceRecord, revision: int) -> Candidate | None:
        """Choose a peer; one that another task has reserved only if no other suits."""
        near = list(self._mirror.roster.waiting(record.app, record.tag).near(record))
        free = [mirrored for mirrored in near if self._reservations.of(mirrored.record) is None]
        found = matcher.choose(record, free, revision, self._reach)
        return found or matcher.choose(record, near, revision, self._reach)

    async def _wait_for_change(self, candidate: DeviceRecord) -> None:
        """Wait until the mirror shows how a candidate has changed that caused a conflict."""
        _, revision, _ = await self._store.read(candidate.app, candidate.device)
        await self._mirror.wait_for(revision)

    async def _claim(
        self, record: DeviceRecord, revision: int, other: DeviceRecord, other_revision: int
    ) -> AnyAnswer:
        """Match a device with another that waited before it; the revision numbers the match.

        Raises:
            ConflictError: one of them has changed.
        """
        metres = told(record, other, self._distance)
        mine = paired(record, other, revision, metres)
        theirs = paired(other, record, revision, metres)
        pair = pair_of(record, other, revision, metres, self._clock(), secrets.token_hex(HALF))
        writes = [
            device_write(theirs, other_revision),
            device_write(mine, revision),
            Write(pair_key(record.app, revision), encode(pair), 0),
        ]
        with self._reservations.claim(record, other) as claim:
            last = claim.revision = await self._store.commit(writes)
        self.publish_match(pair)
        self._notifier.notify(theirs, state_of(theirs, last, mine, last - 1))
        self._notifier.notify(mine, answer := state_of(mine, last, theirs, last - 2))
        return answer
