"""Look around: which edges live, whose grace is over, which ends are to be seen to. Each device falls to one
worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from functools import partial

import msgspec
from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.bucket import ConflictError
from cloudmatch_bus.client.connection import Bus, Headers, NoRespondersError
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeviceRecord, decode_heartbeat
from cloudmatch_match_engine.core.keys import DeviceId, device_id
from cloudmatch_match_engine.core.pool import Known
from cloudmatch_match_engine.core.presence import Presence
from cloudmatch_match_engine.core.replay import Word
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.handler import Pairing

log = logging.getLogger("sweeps")

ROLE = "edge"
EVERY = 0.25  # s between two looks
PATIENCE = 1.0  # s for an edge's answer
AT_ONCE = 64  # devices looked after at a time

_dead = Gauge("cloudmatch_match_engine_dead_edges", "Dead processes of edges whose devices are left")
_released = Counter("cloudmatch_match_engine_released", "Devices of dead edges released")
_expired = Counter("cloudmatch_match_engine_expired", "Devices whose grace was over, taken out")
_told_again = Counter("cloudmatch_match_engine_told_again", "Matches told of again because a worker had gone")


class Sweeps:
    """What one worker does unasked. `clock` gives ms since 1970; `owns` tells what falls to it, `in_touch`
    whether it hears what is said on the bus."""

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        pairing: Pairing,
        clock: Callable[[], int],
        owns: Callable[[DeviceId], bool],
        in_touch: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._pairing = pairing
        self._clock = clock
        self._owns = owns
        self._in_touch = in_touch
        self._now = asyncio.get_running_loop().time
        self._presence = Presence(self._now())
        self._places = asyncio.Semaphore(AT_ONCE)
        # what is being done, or waits for its turn
        self._begun: set[Hashable] = set()

    async def run(self) -> None:
        """Look around until cancelled."""
        beats = await self._bus.subscribe(subjects.every_heartbeat(ROLE), self._on_heartbeat)
        try:
            while True:
                self._look()
                await asyncio.sleep(EVERY)
        finally:
            await self._bus.unsubscribe(beats)

    def _on_heartbeat(self, _: str, __: str, payload: bytes, ___: Headers) -> None:
        try:
            beat = decode_heartbeat(payload)
        except msgspec.DecodeError:
            return
        if beat.leaving:
            self._presence.gone(beat.name, beat.incarnation)
        else:
            self._presence.heard(beat.name, beat.incarnation, self._now())

    def _look(self) -> None:
        holders = list(self._roster.holders())
        beating = {
            holder.edge for holder in holders if holder.incarnation
        }  # the others neither beat nor answer
        in_touch = self._in_touch()
        for edge in self._presence.look(beating, self._now(), in_touch):
            self._bus.spawn(self._probe(edge))
        if not in_touch:
            return
        dead = [holder for holder in holders if self._presence.dead(*holder)]
        _dead.set(len(dead))
        for holder in dead:
            for known in self._roster.held(holder):
                self._begin(known.record, self._is_lost, self._release)
        for known in self._roster.disconnected():
            if self._is_over(known.record):
                self._begin(known.record, self._is_over, self._expire)
        for word in self._pairing.recent.due(self._clock()):
            if self._owns(device_id(word.app, word.device)):
                self._spawn(word, partial(self._tell_again, word))

    def _begin(
        self,
        record: DeviceRecord,
        due: Callable[[DeviceRecord], bool],
        act: Callable[[Known], Awaitable[None]],
    ) -> None:
        device = device_id(record.app, record.device)

        async def see_to() -> None:
            known = self._roster.get(device)  # as it is when its turn has come
            if known is not None and due(known.record):
                await act(known)

        if self._owns(device):
            self._spawn(device, see_to)

    def _spawn(self, what: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        if what not in self._begun:
            self._begun.add(what)
            self._bus.spawn(self._in_turn(what, work))

    async def _in_turn(self, what: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        async with self._places:
            try:
                await work()
            except ConflictError:  # it came back, or another worker was faster
                log.debug("%s has moved on", what)
            except TimeoutError as error:  # the next look finds it again
                log.warning("%s not finished: %s", what, error)
            finally:
                self._begun.discard(what)

    async def _release(self, known: Known) -> None:
        await self._pairing.release(known, self._is_lost)
        _released.inc()

    async def _expire(self, known: Known) -> None:
        await self._pairing.expire(known)
        _expired.inc()

    async def _tell_again(self, word: Word) -> None:
        await self._pairing.tell_again(word)
        _told_again.inc()

    async def _probe(self, edge: str) -> None:
        try:
            beat = decode_heartbeat(await self._bus.request(subjects.probe(edge), b"", PATIENCE))
        except NoRespondersError:
            self._presence.refused(edge)
        except (TimeoutError, msgspec.DecodeError):
            log.info("edge %s does not answer", edge)
        else:
            self._presence.heard(beat.name, beat.incarnation, self._now())
        finally:
            self._presence.asked(edge)

    def _is_lost(self, record: DeviceRecord) -> bool:
        return self._presence.dead(record.edge, record.incarnation)

    def _is_over(self, record: DeviceRecord) -> bool:
        return (
            record.disconnected_at is not None
            and self._clock() - record.disconnected_at > record.grace * 1000
        )
