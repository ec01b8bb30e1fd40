"""Pair devices and take them apart: read, decide, write atomically, tell, answer.

Every request may come twice: its edge repeats it until it is answered, and a worker answers only after
all that follows from it is done and told. So a worker may die between any two steps.

Write, then look: a device is first written as waiting, at revision r; then those that began to wait
before r are looked at in the mirror, once that has reached r. The younger claims the older, with one
atomic batch over both devices and the pair, each at the revision it was seen at.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from cloudmatch_bus.bucket import Bucket, ConflictError, Write
from cloudmatch_bus.messages import (
    AnyAnswer,
    AnyFact,
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    LeavePool,
    MatchEnded,
    MatchMade,
    PairRecord,
    Request,
    SeekPartner,
    decode_device,
    encode,
)
from cloudmatch_match_engine import matcher
from cloudmatch_match_engine.keys import device_id, pair_key
from cloudmatch_match_engine.roster import Roster

log = logging.getLogger("pairing")

BACK_OFF = 0.004  # s; conflicts wait a random part of it
ATTEMPTS = 200


class Tell(Protocol):
    """How the pairing speaks to edges and to the stream of facts."""

    def edge(self, record: DeviceRecord, answer: AnyAnswer) -> None:
        """Tell the edge that holds a device what became of it."""

    def fact(self, fact: AnyFact, key: str) -> None:
        """Publish a fact, known by `key` if it is published twice."""


class Seen(NamedTuple):
    """A device's record as the leader has it; None: absent."""

    record: DeviceRecord | None
    revision: int


def waiting(request: SeekPartner) -> DeviceRecord:
    """Make the record of a device that begins to wait."""
    return DeviceRecord(
        app=request.app,
        device=request.device,
        edge=request.edge,
        session=request.session,
        lat=request.lat,
        lon=request.lon,
        radius=request.radius,
        tag=request.tag,
    )


def again(record: DeviceRecord) -> DeviceRecord:
    """Make the record of a device whose match is over."""
    return replace(record, match=None, peer=None, distance=None)


def standing(record: DeviceRecord, revision: int) -> AnyAnswer:
    """Say where a device stands."""
    if record.match is None or record.peer is None:
        return DeviceWaiting(session=record.session, since=revision)
    return DevicePaired(
        session=record.session, match=record.match, peer=record.peer, distance=record.distance or 0.0
    )


def newer(record: DeviceRecord, request: Request) -> bool:
    """Whether a record belongs to a later connection than the one that asks."""
    return (record.session, record.edge) > (request.session, request.edge)


class Pairing:
    """The engine. `clock` gives ms since 1970; `reach` is in degrees, for devices that name no radius."""

    def __init__(
        self, bucket: Bucket, roster: Roster, tell: Tell, clock: Callable[[], int], reach: float
    ) -> None:
        self._bucket = bucket
        self._roster = roster
        self._tell = tell
        self._clock = clock
        self._reach = reach
        # (revision, future) of those that wait for the mirror
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    # -- requests

    async def seek(self, request: SeekPartner) -> AnyAnswer:
        """Put a device into the pool and pair it if it can be, or say where it stands.

        Raises:
            TimeoutError: JetStream does not answer, or others were always faster; ask again.
        """
        key = device_id(request.app, request.device).key
        for _ in range(ATTEMPTS):
            old, revision = await self._read(request.app, request.device)
            try:
                if old is None:
                    return await self._enter(waiting(request), key, revision)
                if (old.session, old.edge) == (request.session, request.edge):
                    return await self._settle(old, revision)
                if newer(old, request):
                    return DeviceReplaced(session=request.session)
                return await self._replace(old, revision, waiting(request), key)
            except ConflictError:
                await self._pause()
        raise TimeoutError(f"{request.app}/{request.device} could not be written")

    async def leave(self, request: LeavePool) -> AnyAnswer:
        """Take a device out and end its match; its peer waits again, and may find another at once."""
        gone = DeviceGone(session=request.session)
        for _ in range(ATTEMPTS):
            old, revision = await self._read(request.app, request.device)
            if old is None or (old.session, old.edge) != (request.session, request.edge):
                if request.peer is not None:  # asked again: was all of it done the first time?
                    await self._look_after(request.app, request.peer)
                return gone
            key = device_id(request.app, request.device).key
            try:
                if old.match is None:
                    await self._bucket.commit([Write(key, None, revision)])
                else:
                    await self._end(old, Write(key, None, revision), request.reason)
            except ConflictError:
                await self._pause()
                continue
            return gone
        raise TimeoutError(f"{request.app}/{request.device} could not be taken out")

    async def remind(self, app: str, device: str) -> None:
        """Tell a device's edge where it stands: it spoke as if it did not know."""
        record, revision = await self._read(app, device)
        if record is not None:
            self._tell.edge(record, standing(record, revision))

    async def catch_up(self, app: str, device: str, match: int) -> bool:
        """Whether the leader has the device in this match; if so, the mirror knows it now."""
        record, revision = await self._read(app, device)
        if record is None or record.match != match:
            return False
        await self._mirror_reached(revision)
        return True

    # -- steps

    async def _enter(self, record: DeviceRecord, key: str, expected: int) -> AnyAnswer:
        revision = await self._bucket.commit([Write(key, encode(record), expected)])
        return await self._find(record, revision)

    async def _settle(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """A device asks again. Say where it stands, and do what a dead worker may have left undone."""
        if record.match is None:
            return await self._find(record, revision)
        if record.peer is not None:
            await self.remind(record.app, record.peer)
        return standing(record, revision)

    async def _replace(self, old: DeviceRecord, revision: int, new: DeviceRecord, key: str) -> AnyAnswer:
        """A newer connection takes the id over. The old one's match ends."""
        write = Write(key, encode(new), revision)
        if old.match is None:
            written = await self._bucket.commit([write])
        else:
            written = await self._end(old, write, "replaced")
        self._tell.edge(old, DeviceReplaced(session=old.session))
        return await self._find(new, written)

    async def _end(self, leaver: DeviceRecord, write: Write, reason: str) -> int:
        """End a match: write the leaver's key, let the peer wait, drop the pair; all or nothing.

        Gives the revision of the leaver's key. The peer has been told, and looked for another partner.
        """
        assert leaver.match is not None
        assert leaver.peer is not None
        peer_key = device_id(leaver.app, leaver.peer).key
        peer, peer_revision = await self._read(leaver.app, leaver.peer)
        pair = await self._bucket.get(pair_key(leaver.app, leaver.match))
        writes = [write, Write(pair.key, None, pair.revision)]
        released = None
        if peer is not None and peer.match == leaver.match:
            released = again(peer)
            writes.append(Write(peer_key, encode(released), peer_revision))
        last = await self._bucket.commit(writes)
        self._tell.fact(
            MatchEnded(
                app=leaver.app,
                at=self._clock(),
                match=leaver.match,
                device=leaver.device,
                peer=leaver.peer,
                reason=reason,
            ),
            f"unmatched-{leaver.app}-{leaver.match}",
        )
        if released is not None:
            self._tell.edge(
                released, DeviceUnpaired(session=released.session, match=leaver.match, reason=reason)
            )
            await self._find(released, last)
        return last - len(writes) + 1

    async def _look_after(self, app: str, device: str) -> None:
        record, revision = await self._read(app, device)
        if record is not None:
            self._tell.edge(record, await self._settle(record, revision))

    async def _find(self, record: DeviceRecord, revision: int) -> AnyAnswer:
        """Look for a partner of a device that waits since `revision`; say where it then stands."""
        for _ in range(ATTEMPTS):
            await self._mirror_reached(revision)
            pool = self._roster.waiting(record.app, record.tag)
            found = matcher.choose(record, pool, revision, self._reach)
            if found is None:
                return standing(record, revision)
            try:
                return await self._claim(record, revision, *found)
            except ConflictError:
                await self._pause()
            now, now_revision = await self._read(record.app, record.device)
            if now is None or now.session != record.session or now.edge != record.edge:
                return DeviceGone(session=record.session)
            if now_revision != revision:  # a younger one was faster
                return standing(now, now_revision)
            # The candidate is what moved: look again once the mirror knows how.
            _, moved = await self._read(found[0].app, found[0].device)
            await self._mirror_reached(moved)
        raise TimeoutError(f"{record.app}/{record.device} was never fast enough")

    async def _claim(
        self, record: DeviceRecord, revision: int, other: DeviceRecord, other_revision: int
    ) -> AnyAnswer:
        metres = matcher.distance(record, other)
        mine = replace(record, match=revision, peer=other.device, distance=metres)
        theirs = replace(other, match=revision, peer=record.device, distance=metres)
        now = self._clock()
        pair = PairRecord(app=record.app, match=revision, device=record.device, peer=other.device, at=now)
        await self._bucket.commit(
            [
                Write(device_id(other.app, other.device).key, encode(theirs), other_revision),
                Write(device_id(record.app, record.device).key, encode(mine), revision),
                Write(pair_key(record.app, revision), encode(pair), 0),
            ]
        )
        self._tell.fact(
            MatchMade(
                app=record.app,
                at=now,
                match=revision,
                device=record.device,
                peer=other.device,
                distance=metres,
            ),
            f"matched-{record.app}-{revision}",
        )
        self._tell.edge(theirs, standing(theirs, revision))
        self._tell.edge(mine, answer := standing(mine, revision))
        return answer

    # -- the bucket and its mirror

    async def _read(self, app: str, device: str) -> Seen:
        entry = await self._bucket.get(device_id(app, device).key)
        return Seen(None if entry.value is None else decode_device(entry.value), entry.revision)

    async def _pause(self) -> None:
        await asyncio.sleep(random.uniform(0, BACK_OFF))  # noqa: S311  # jitter, no secret

    async def _mirror_reached(self, revision: int) -> None:
        if self._roster.reached >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        await asyncio.wait_for(future, 2)

    def mirror_moved(self) -> None:
        """The mirror has learnt something: wake those that waited for it."""
        if not self._waiters:
            return
        reached = self._roster.reached
        for revision, future in self._waiters:
            if revision <= reached and not future.done():
                future.set_result(None)
        self._waiters = [w for w in self._waiters if not w[1].done()]
