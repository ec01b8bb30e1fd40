"""Pair devices and take them apart: read, decide, write atomically, tell, answer.

Every request may come twice: its edge repeats it until it is answered, and a worker answers only after
all that follows from it is done and told. So a worker may die between any two steps: whoever is asked next
does again what may not have been done. For this a device that leaves leaves word of whom it left. And late:
a worker that was frozen may find a request of a connection that is long gone, so that word names it, and
the record of a device that is away names the connections that are over.
"""

from collections.abc import Callable

from cloudmatch_bus.client.bucket import Bucket, ConflictError
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    DeviceGone,
    DeviceRecord,
    LeaveMatch,
    LeavePool,
    PairRecord,
    SeekPartner,
    StepAway,
    Tombstone,
)
from cloudmatch_match_engine.core.pool import Known
from cloudmatch_match_engine.core.replay import Recent, Word
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.core.transitions import (
    age,
    announced,
    closed,
    departure,
    missing,
    replaced,
    resumed,
    resumes,
    waiting,
)
from cloudmatch_match_engine.pairing.search import Search
from cloudmatch_match_engine.pairing.store import ATTEMPTS, Registry, Tell, written
from cloudmatch_match_engine.pairing.unpairing import EXPIRED, REPLACED, Ending, Lost


class Pairing:
    """The engine. `clock` gives ms since 1970; `reach` is in degrees, for devices that name no radius."""

    def __init__(
        self, bucket: Bucket, roster: Roster, tell: Tell, clock: Callable[[], int], reach: float
    ) -> None:
        self.recent = Recent()
        self._clock = clock
        self._registry = Registry(bucket, roster, tell)
        self._search = Search(self._registry, clock, reach)
        self._ending = Ending(self._registry, self._search, self.recent, clock)
        self.mirror_moved = self._registry.mirror_moved
        self.remind = self._search.remind

    async def answer(self, request: AnyRequest) -> AnyAnswer:
        """Do what an edge asks, and say where its device then stands.

        Raises:
            TimeoutError: JetStream does not answer, or others were always faster; ask again.
        """
        for _ in range(ATTEMPTS):
            try:
                match request:
                    case SeekPartner():
                        return await self._seek(request)
                    case StepAway():
                        return await self._step_away(request)
                    case LeaveMatch():
                        return await self._leave_match(request)
                    case LeavePool():
                        return await self._leave(request)
            except ConflictError:
                await self._registry.pause()
        raise TimeoutError(f"{request.app}/{request.device} could not be written")

    # -- requests; each raises ConflictError when the device or its peer has moved on meanwhile

    async def _seek(self, request: SeekPartner) -> AnyAnswer:
        """Put a device into the pool and pair it if it can be, or say where it stands."""
        old, revision, gone = await self._registry.read(request.app, request.device)
        last = old or gone
        if last is not None and age(last) > age(request):
            return replaced(request, last)
        if old is None:
            if gone is not None and age(gone) == age(request):
                return DeviceGone(connection_id=request.connection_id)
            await self._ending.finish(gone)
        elif age(old) == age(request):
            if old.closed:
                return DeviceGone(connection_id=request.connection_id)
            return await self._update(old, announced(old, request), revision)
        elif resumes(old, request):
            self._tell_replaced(old, request)
            return await self._update(old, resumed(old, request), revision)
        else:
            revision = await self._replace(old, revision, request)
        return await self._write(waiting(request), revision)

    async def _step_away(self, request: StepAway) -> AnyAnswer:
        """A connection is over: its device is away for its grace, or has left.

        When its request to enter has not come, that may still come late. So a newer connection than that
        of the record takes its place even now.
        """
        old, revision, gone = await self._registry.read(request.app, request.device)
        last = old or gone
        if last is not None and age(last) > age(request):
            return replaced(request, last)
        if old is None or not old.grace:
            return await self._take_out(request, "left", old, revision, gone)
        if age(old) != age(request):
            self._tell_replaced(old, request)
        new = closed(old, request, self._clock())
        if new != old:
            revision = await self._registry.commit([written(new, revision)])
        await self._ending.tell_away(new)
        return await self._search.stand(new, revision)

    async def _leave_match(self, request: LeaveMatch) -> AnyAnswer:
        """End this match, if the device is in it, and look for others for both."""
        old, revision, _ = await self._registry.read(request.app, request.device)
        if old is not None and old.match == request.match:
            await self._ending.part(old, revision)
        else:
            await self._ending.finish_match(request.app, request.device, request.match)
        now, revision, _ = await self._registry.read(request.app, request.device)
        if now is None or age(now) != age(request):
            return missing(request, now)
        return await self._search.stand(now, revision)

    async def _leave(self, request: LeavePool) -> AnyAnswer:
        """Take a device out and end its match; its peer waits again, and may find another at once."""
        old, revision, gone = await self._registry.read(request.app, request.device)
        last = old or gone
        if last is not None and age(last) > age(request):  # whoever came later has seen to it
            return DeviceGone(connection_id=request.connection_id)
        if old is not None and old.grace and request.reason == REPLACED:
            # The connection leaves, the session does not: a newer one is about to go on with it.
            return await self._step_away(
                StepAway(
                    app=request.app,
                    device=request.device,
                    edge=request.edge,
                    connection_id=request.connection_id,
                )
            )
        return await self._take_out(request, request.reason, old, revision, gone)

    async def _take_out(
        self,
        request: StepAway | LeavePool,
        reason: str,
        old: DeviceRecord | None,
        revision: int,
        gone: Tombstone | None,
    ) -> AnyAnswer:
        """Take a connection and all older ones out; leave word of it: its request to enter may still come."""
        ending = self._ending
        if old is not None and age(old) == age(request):
            await ending.take_out(old, revision, departure(old, reason))
        else:
            if old is not None:
                revision = await self._replace(old, revision, request)
            await ending.finish(gone)
            if gone is None or age(gone) != age(request):
                await ending.take_out(None, revision, departure(request, reason))
        return DeviceGone(connection_id=request.connection_id)

    async def _replace(self, old: DeviceRecord, revision: int, by: AnyRequest) -> int:
        """Take a connection out whose device begins anew with a newer one; give the key's new revision."""
        self._tell_replaced(old, by)
        return await self._ending.take_out(old, revision, departure(old, REPLACED))

    def _tell_replaced(self, old: DeviceRecord, by: AnyRequest) -> None:
        """Told before it is written, for it is so already: who is asked again may not know of it any more."""
        self._registry.tell(old, replaced(old, by))

    async def _update(self, old: DeviceRecord, new: DeviceRecord, revision: int) -> AnyAnswer:
        """Write what has changed about a device, and let it and its peer know."""
        if new == old:
            return await self._search.settle(old, revision)
        revision = await self._registry.commit([written(new, revision)])
        if old.disconnected_at is not None or age(new) != age(old):
            await self._search.tell_returned(new)
        return await self._search.settle(new, revision)

    async def _write(self, record: DeviceRecord, expected: int) -> AnyAnswer:
        revision = await self._registry.commit([written(record, expected)])
        return await self._search.settle(record, revision)

    # -- what workers do unasked; a ConflictError means that the device came back, or another was faster

    async def release(self, known: Known, lost: Lost) -> None:
        """The edge of a device is dead: it is away for its grace, or has left. `lost` tells who else is."""
        record, revision = known
        if record.grace:
            await self._ending.leave_alone(record, revision)
        else:
            await self._ending.take_out(record, revision, departure(record, EXPIRED), lost)

    async def expire(self, known: Known) -> None:
        """A device has been away for longer than its grace."""
        await self._ending.take_out(*known, departure(known.record, EXPIRED))

    async def tell_again(self, word: Word) -> None:
        """Tell again of a match that was made, or do again what follows when one has ended."""
        if isinstance(word, PairRecord):
            self._search.tell_young(word)
        else:
            await self._ending.finish(word)

    async def catch_up(self, app: str, device: str, match: int) -> bool:
        """Whether the leader has the device in this match; if so, the mirror knows it now."""
        record, revision, _ = await self._registry.read(app, device)
        if record is None or record.match != match:
            return False
        await self._registry.mirror_reached(revision)
        return True
