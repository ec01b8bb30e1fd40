"""Handle pairing requests: read, decide, commit atomically, notify, answer.

Every request may arrive twice: an edge repeats it until it is answered, and a worker answers only once all
that follows from it is committed and sent. So a worker may die between any two steps; whichever worker
handles the repeated request completes them. A departing device therefore leaves a tombstone that names its
peer. Requests may also arrive late: a worker that was frozen may find a request of a connection that ended
long ago. So the tombstone names the connection, and a disconnected device's record the previous ones.
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
)
from cloudmatch_match_engine.core.answers import gone_or_replaced, peer_away, replaced
from cloudmatch_match_engine.core.distances import Told
from cloudmatch_match_engine.core.pool import MirroredDevice
from cloudmatch_match_engine.core.replay import MatchEvent
from cloudmatch_match_engine.core.transitions import (
    announced,
    closed,
    is_newer,
    is_same,
    new_record,
    resumed,
    resumes,
    tombstone_of,
)
from cloudmatch_match_engine.pairing.mirror import Mirror
from cloudmatch_match_engine.pairing.search import Search
from cloudmatch_match_engine.pairing.store import (
    ATTEMPTS,
    Notifier,
    PairingStore,
    StoredDevice,
    device_write,
)
from cloudmatch_match_engine.pairing.unpairing import (
    EXPIRED,
    REPLACED,
    SILENT,
    UNMATCHED,
    EdgeIsDead,
    Unpairing,
)


class PairingHandler:
    """The engine.

    Args:
        clock: ms since 1970.
        reach: degrees, for devices without a radius.
        distance: how that of a match is told.
    """

    def __init__(
        self,
        bucket: Bucket,
        mirror: Mirror,
        notifier: Notifier,
        clock: Callable[[], int],
        reach: float,
        distance: Told = "rounded",
    ) -> None:
        self._clock = clock
        self._mirror = mirror
        self._notifier = notifier
        self._store = PairingStore(bucket)
        self._search = Search(self._store, mirror, notifier, clock, reach, distance)
        self._unpairing = Unpairing(self._store, notifier, self._search, mirror, clock)

    async def answer(self, request: AnyRequest) -> AnyAnswer:
        """Carry out an edge's request; return the resulting state of its device.

        Raises:
            TimeoutError: JetStream does not answer, or every attempt met a conflict; to be repeated.
        """
        for attempt in range(ATTEMPTS):
            try:
                match request:
                    case SeekPartner():
                        return await self._seek(request)
                    case StepAway():
                        return await self._step_away(request)
                    case LeaveMatch():
                        return await self._leave_match(request)
                    case LeavePool():
                        return await self._leave_pool(request)
            except ConflictError:
                await self._store.back_off(attempt)
        raise TimeoutError(f"{request.app}/{request.device} lost every conflict")

    # -- requests; each raises ConflictError when the device or its peer has changed meanwhile

    async def _seek(self, request: SeekPartner) -> AnyAnswer:
        """Put a device into the pool and match it if possible, or report its state."""
        old, revision, tombstone = await self._store.read(request.app, request.device)
        last = old or tombstone
        if last is not None and is_newer(last, request):
            return replaced(request, last, None if old is None else self._mirror.known_for(old))
        if old is None:
            if tombstone is not None and is_same(tombstone, request):
                return DeviceGone(connection_id=request.connection_id)
            await self._unpairing.finish(tombstone)
        elif is_same(old, request):
            if old.closed:
                return DeviceGone(connection_id=request.connection_id)
            return await self._update(old, announced(old, request), revision)
        elif resumes(old, request):
            self._notify_replaced(old, request)
            return await self._update(old, resumed(old, request), revision)
        else:
            revision = await self._replace(old, revision, request)
        return await self._write(new_record(request), revision)

    async def _step_away(self, request: StepAway) -> AnyAnswer:
        """Disconnect a device whose connection is over: for its grace, or for good if it has none.

        The request to enter of that connection may still arrive, so it replaces an older one even now.
        """
        stored = await self._store.read(request.app, request.device)
        old, revision, _ = stored
        last = old or stored.tombstone
        if last is not None and is_newer(last, request):
            return replaced(request, last)
        if old is None or not old.grace:
            return await self._remove(request, "left", stored)
        if not is_same(old, request):
            self._notify_replaced(old, request)
        new = closed(old, request, self._clock())
        if new != old:
            revision = await self._store.commit([device_write(new, revision)])
        return await self._search.report(new, revision, peer_away)

    async def _leave_match(self, request: LeaveMatch) -> AnyAnswer:
        """End this match if the device is in it, and search for other peers for both."""
        old, revision, _ = await self._store.read(request.app, request.device)
        if old is not None and old.match == request.match:
            await self._unpairing.unmatch(old, revision, SILENT if request.silent else UNMATCHED)
        else:
            await self._unpairing.finish_unmatch(request.app, request.device, request.match)
        now, revision, _ = await self._store.read(request.app, request.device)
        if now is None or not is_same(now, request):
            return gone_or_replaced(request, now)
        return await self._search.current_state(now, revision)

    async def _leave_pool(self, request: LeavePool) -> AnyAnswer:
        """Remove a device and end its match; its peer waits again and may be matched at once."""
        stored = await self._store.read(request.app, request.device)
        last = stored.record or stored.tombstone
        if last is not None and is_newer(last, request):  # the newer connection has replaced this one
            return DeviceGone(connection_id=request.connection_id)
        if stored.record is not None and stored.record.grace and request.reason == REPLACED:
            # The connection leaves but the session stays: a newer connection is about to resume it.
            away = StepAway(
                app=request.app,
                device=request.device,
                edge=request.edge,
                connection_id=request.connection_id,
            )
            return await self._step_away(away)
        return await self._remove(request, request.reason, stored)

    async def _remove(self, request: StepAway | LeavePool, reason: str, stored: StoredDevice) -> AnyAnswer:
        """Remove a connection and older ones; leave a tombstone for its request that may still arrive."""
        old, revision, tombstone = stored
        unpairing = self._unpairing
        if old is not None and is_same(old, request):
            await unpairing.remove(old, revision, tombstone_of(old, reason))
        else:
            if old is not None:
                revision = await self._replace(old, revision, request)
            await unpairing.finish(tombstone)
            if tombstone is None or not is_same(tombstone, request):
                await unpairing.remove(None, revision, tombstone_of(request, reason))
        return DeviceGone(connection_id=request.connection_id)

    async def _replace(self, old: DeviceRecord, revision: int, by: AnyRequest) -> int:
        """Remove a connection whose device starts over with a newer one; return the key's new revision."""
        self._notify_replaced(old, by)
        return await self._unpairing.remove(old, revision, tombstone_of(old, REPLACED))

    def _notify_replaced(self, old: DeviceRecord, by: AnyRequest) -> None:
        """Notify before the commit: a repeated request may not find the old record any more."""
        self._notifier.notify(old, replaced(old, by))

    async def _update(self, old: DeviceRecord, new: DeviceRecord, revision: int) -> AnyAnswer:
        """Write a device's changes, if any; notify its peer of a new connection."""
        if new == old:
            return await self._search.find_or_report(old, revision)
        revision = await self._store.commit([device_write(new, revision)])
        returned = old.disconnected_at is not None or not is_same(new, old)
        return await self._search.find_or_report(new, revision, returned=returned)

    async def _write(self, record: DeviceRecord, expected: int) -> AnyAnswer:
        revision = await self._store.commit([device_write(record, expected)])
        return await self._search.find_or_report(record, revision)

    # -- unasked; a ConflictError means that the device has returned, or that another worker was faster

    async def release(self, mirrored: MirroredDevice, edge_is_dead: EdgeIsDead) -> None:
        """Disconnect a device of a dead edge for its grace, or remove it if it has none."""
        record, revision = mirrored
        if record.grace:
            await self._unpairing.disconnect(record, revision)
        else:
            await self._unpairing.remove(record, revision, tombstone_of(record, EXPIRED), edge_is_dead)

    async def expire(self, mirrored: MirroredDevice) -> None:
        """Remove a device that was disconnected for longer than its grace."""
        await self._unpairing.remove(*mirrored, tombstone_of(mirrored.record, EXPIRED))

    async def replay(self, event: MatchEvent) -> None:
        """Publish a match again, or redo what follows its end."""
        if isinstance(event, PairRecord):
            self._search.publish_match(event)
        else:
            await self._unpairing.finish(event)

    async def resend_state(self, app: str, device: str) -> None:
        """Notify a device's edge of its state."""
        await self._search.resend_state(app, device)

    async def catch_up(self, app: str, device: str, match: int, edge: str) -> bool:
        """Whether the leader has the device in this match, on this edge; if so, wait until the mirror has
        it, too."""
        record, revision, _ = await self._store.read(app, device)
        if record is None or (record.match, record.edge) != (match, edge):
            return False
        await self._mirror.wait_for(revision)
        return True
