"""Pair devices and take them apart: read, decide, write atomically, tell, answer.

Every request may come twice: its edge repeats it until it is answered, and a worker answers only after
all that follows from it is done and told. So a worker may die between any two steps: whoever is asked next
does again what may not have been done. For this a device that leaves leaves word of whom it left. And late:
a worker that was frozen may find a request of a connection that is long gone, so that word names it.

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

from cloudmatch_bus.bucket import Bucket, ConflictError, Entry, Write
from cloudmatch_bus.messages import (
    AnyAnswer,
    AnyFact,
    Departure,
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
    decode_departure,
    decode_device,
    decode_pair,
    encode,
)
from cloudmatch_match_engine import matcher
from cloudmatch_match_engine.keys import device_id, pair_key
from cloudmatch_match_engine.roster import Roster

log = logging.getLogger("pairing")

BACK_OFF = 0.004  # s; conflicts wait a random part of it
ATTEMPTS = 200
YOUNG = 60_000  # ms; less than JetStream remembers message ids, so that a fact published again counts once


class Tell(Protocol):
    """How the pairing speaks to edges and to the stream of facts."""

    def edge(self, record: DeviceRecord | Departure, answer: AnyAnswer) -> None:
        """Tell the edge that holds a device what became of it."""

    def fact(self, fact: AnyFact, key: str) -> None:
        """Publish a fact, known by `key` if it is published twice."""


class Seen(NamedTuple):
    """A device as the leader has it: its record, or none and perhaps word of who left last."""

    record: DeviceRecord | None
    revision: int
    gone: Departure | None = None


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


def departure(connection: DeviceRecord | LeavePool, reason: str) -> Departure:
    """Say that a connection leaves, and with it the match that it is in."""
    return Departure(
        app=connection.app,
        device=connection.device,
        edge=connection.edge,
        session=connection.session,
        match=connection.match,
        peer=connection.peer,
        reason=reason,
    )


def age(connection: DeviceRecord | Departure | Request) -> tuple[int, str]:
    """Order connections of one id: the larger is the newer; equal are the same."""
    return connection.session, connection.edge


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
            old, revision, gone = await self._read(request.app, request.device)
            last = old or gone
            if last is not None and age(last) > age(request):
                return DeviceReplaced(session=request.session)
            try:
                if old is None:
                    if gone is not None and age(gone) == age(request):
                        return DeviceGone(session=request.session)
                    await self._finish(gone)
                elif age(old) == age(request):
                    return await self._settle(old, revision)
                else:
                    revision = await self._end(old, revision, departure(old, "replaced"))
                return await self._enter(waiting(request), key, revision)
            except ConflictError:
                await self._pause()
        raise TimeoutError(f"{request.app}/{request.device} could not be written")

    async def leave(self, request: LeavePool) -> AnyAnswer:
        """Take a device out and end its match; its peer waits again, and may find another at once.

        Raises:
            TimeoutError: as `seek`.
        """
        gone_for_good = DeviceGone(session=request.session)
        for _ in range(ATTEMPTS):
            old, revision, gone = await self._read(request.app, request.device)
            last = old or gone
            if last is not None and age(last) > age(request):  # whoever came later has seen to it
                return gone_for_good
            try:
                if old is None:
                    await self._finish(gone)
                    if gone is not None and age(gone) == age(request):
                        return gone_for_good
                elif age(old) == age(request):
                    await self._end(old, revision, departure(old, request.reason))
                    return gone_for_good
                else:
                    revision = await self._end(old, revision, departure(old, "replaced"))
                # Its request to enter may still come.
                await self._end(None, revision, departure(request, request.reason))
            except ConflictError:
                await self._pause()
            else:
                return gone_for_good
        raise TimeoutError(f"{request.app}/{request.device} could not be taken out")

    async def remind(self, app: str, device: str) -> None:
        """Tell a device's edge where it stands: it spoke as if it did not know."""
        record, revision, _ = await self._read(app, device)
        if record is not None:
            self._tell.edge(record, standing(record, revision))

    async def catch_up(self, app: str, device: str, match: int) -> bool:
        """Whether the leader has the device in this match; if so, the mirror knows it now."""
        record, revision, _ = await self._read(app, device)
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
            await self._tell_made(record)
            await self.remind(record.app, record.peer)
        return standing(record, revision)

    async def _end(self, leaver: DeviceRecord | None, revision: int, left: Departure) -> int:
        """Delete a device's key with this word, let its peer wait, drop the pair; all or nothing.

        Gives the new revision of the device's key. Then the peer knows and has looked for another partner.
        """
        writes = [Write(device_id(left.app, left.device).key, None, revision, encode(left))]
        if leaver is not None and leaver.match is not None and leaver.peer is not None:
            pair = await self._tell_made(leaver)
            writes.append(Write(pair.key, None, pair.revision))
            peer, peer_revision, _ = await self._read(leaver.app, leaver.peer)
            if peer is not None and peer.match == leaver.match:
                key = device_id(peer.app, peer.device).key
                writes.append(Write(key, encode(again(peer)), peer_revision))
        last = await self._bucket.commit(writes)
        await self._finish(left)
        return last - len(writes) + 1

    async def _finish(self, left: Departure | None) -> None:
        """Do, or do again, what follows when a device has left."""
        if left is None:
            return
        if left.reason == "replaced":
            self._tell.edge(left, DeviceReplaced(session=left.session))
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
        self._tell.fact(fact, f"unmatched-{left.app}-{left.match}")
        record, _, _ = await self._read(left.app, left.peer)
        if record is not None:
            unpaired = DeviceUnpaired(session=record.session, match=left.match, reason=left.reason)
            self._tell.edge(record, unpaired)
        await self._look_after(left.app, left.peer)

    async def _tell_made(self, record: DeviceRecord) -> Entry:
        """Publish again that a young match was made: who made it may have died. Give the pair's entry."""
        assert record.match is not None
        entry = await self._bucket.get(pair_key(record.app, record.match))
        if entry.value is not None:
            pair = decode_pair(entry.value)
            if self._clock() - pair.at < YOUNG:
                self._made(pair, record.distance or 0.0)
        return entry

    def _made(self, pair: PairRecord, metres: float) -> None:
        fact = MatchMade(
            app=pair.app,
            at=pair.at,
            match=pair.match,
            device=pair.device,
            peer=pair.peer,
            distance=metres,
        )
        self._tell.fact(fact, f"matched-{pair.app}-{pair.match}")

    async def _look_after(self, app: str, device: str) -> None:
        record, revision, _ = await self._read(app, device)
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
            now, now_revision, _ = await self._read(record.app, record.device)
            if now is None or age(now) != age(record):
                return DeviceGone(session=record.session)
            if now_revision != revision:  # a younger one was faster
                return standing(now, now_revision)
            # The candidate is what moved: look again once the mirror knows how.
            _, moved, _ = await self._read(found[0].app, found[0].device)
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
        self._made(pair, metres)
        self._tell.edge(theirs, standing(theirs, revision))
        self._tell.edge(mine, answer := standing(mine, revision))
        return answer

    # -- the bucket and its mirror

    async def _read(self, app: str, device: str) -> Seen:
        entry = await self._bucket.get(device_id(app, device).key)
        if entry.value is not None:
            return Seen(decode_device(entry.value), entry.revision)
        return Seen(None, entry.revision, decode_departure(entry.epitaph) if entry.epitaph else None)

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
