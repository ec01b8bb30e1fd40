"""What an edge asks of match-engine about its devices, until it is answered."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import Counter

from cloudmatch_bus.client.connection import Bus, NoRespondersError
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.cells import cell
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    DevicePaired,
    DeviceReplaced,
    DeviceWaiting,
    LeaveMatch,
    LeavePool,
    SeekPartner,
    StepAway,
    decode_answer,
    encode,
)
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.match import Match

log = logging.getLogger("engine")

FAREWELL = 1.0  # s that payloads may still take when their device parts or leaves
TICK = 0.05  # s between two looks whether they have arrived
DOUBT = 0.2  # s that news may take before it is asked for
RETRY_MIN, RETRY_MAX = 0.1, 2.0  # s between two requests
NEWEST = (1 << 62, True)  # news that is not ordered
LOST = 12.0  # s; longer than a server that leads no more may take itself for the leader of the bucket

_repeated = Counter("cloudmatch_edge_requests_repeated", "Requests to match-engine that were not answered")


async def arrived(match: Match | None) -> None:
    """Wait, not long, for what a device has sent before it parts from its match."""
    if match is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL):
            while match.sending:  # noqa: ASYNC110  # acks are looked at once a tick anyway
                await asyncio.sleep(TICK)


def _number(answer: AnyAnswer) -> tuple[int, bool]:
    """The number by which news of a device is ordered, and whether it is that of a match."""
    match answer:
        case DevicePaired(match=number):
            return number, True
        case DeviceWaiting(since=number):
            return number, False
    return NEWEST


class Engine:
    """match-engine, as one edge speaks to it.

    Args:
        incarnation: µs since 1970 when this edge started.
        present: whether a device is still this edge's, by this connection.
        clock: gives µs since 1970.
    """

    def __init__(
        self,
        bus: Bus,
        edge: str,
        incarnation: int,
        present: Callable[[Device], bool],
        clock: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._edge = edge
        self._incarnation = incarnation
        self._present = present
        self._doubtful: set[Device] = set()
        self._farewells = 0  # that match-engine has not answered
        self._none = asyncio.Event()
        self._none.set()

    # -- while a device is here

    def seek(self, device: Device) -> None:
        """Say who and where a device is, and hear where it stands."""
        self._bus.spawn(self._seek(device))

    async def _seek(self, device: Device) -> None:
        now = asyncio.get_running_loop().time
        behind: float | None = None  # since when the answers are older than what was known before asking
        while True:
            known = device.heard
            answer = await self._ask(device, self._introduction(device), lambda: self._here(device))
            if answer is None or not self._here(device):
                return
            if isinstance(answer, DeviceReplaced) and device.unheard and answer.by > self._clock():
                # By a connection from the future: this one came last, but that edge's clock is ahead.
                device.connection_id = answer.by + 1
                continue
            if _number(answer) < min(known, device.heard):
                # All servers that kept the bucket have ended, and its numbers begin anew. Or a server answers
                # that will soon notice that it leads no more.
                behind = behind or now()
                if now() - behind < LOST:
                    await asyncio.sleep(RETRY_MAX)
                    continue
                log.warning("match-engine has forgotten %s: it starts over", device.who.id)
                device.start_over()
            device.hear_answer(answer)
            return

    def _here(self, device: Device) -> bool:
        return self._present(device) and not device.away

    def _introduction(self, device: Device) -> SeekPartner:
        who = device.who
        return SeekPartner(
            app=who.app,
            device=who.id,
            edge=self._edge,
            connection_id=device.connection_id,
            lat=who.lat,
            lon=who.lon,
            radius=who.radius,
            tag=who.tag,
            location_version=device.location_version,
            incarnation=self._incarnation,
            grace=device.grace,
            token=device.token,
            resume=device.resumes,
        )

    def doubt(self, device: Device) -> None:
        """Ask where a device stands, unless the news comes by itself."""
        if device not in self._doubtful:
            self._doubtful.add(device)
            asyncio.get_running_loop().call_later(DOUBT, self._ask_doubtful, device)

    def _ask_doubtful(self, device: Device) -> None:
        self._doubtful.discard(device)
        if device.puzzled and self._present(device):
            self.seek(device)

    def part(self, device: Device, match: Match) -> None:
        """End a device's match, once what it has sent has arrived."""
        self._bus.spawn(self._part(device, match))

    async def _part(self, device: Device, match: Match) -> None:
        await arrived(match)
        who = device.who
        request = LeaveMatch(
            app=who.app,
            device=who.id,
            edge=self._edge,
            connection_id=device.connection_id,
            match=match.number,
        )
        answer = await self._ask(device, request, lambda: device.match is match and self._present(device))
        if answer is not None and self._present(device):
            device.hear_answer(answer)

    # -- when it is not

    async def bid_farewell(self, timeout: float) -> int:
        """Wait until match-engine knows of all who left; give how many it does not know of after `timeout`
        seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), timeout)
        return self._farewells

    def _farewell(self, work: Coroutine[Any, Any, None]) -> None:
        async def counted() -> None:
            try:
                await work
            finally:
                self._farewells -= 1
                if not self._farewells:
                    self._none.set()

        self._farewells += 1
        self._none.clear()
        self._bus.spawn(counted())

    def step_away(self, device: Device) -> None:
        """Say that a device's connection is gone, and that it may return."""
        self._farewell(self._step_away(device))

    async def _step_away(self, device: Device) -> None:
        who = device.who
        request = StepAway(
            app=who.app,
            device=who.id,
            edge=self._edge,
            connection_id=device.connection_id,
            may_have_sent=device.match is not None and device.match.sender is not None,
        )
        answer = await self._ask(device, request, lambda: self._present(device))
        if answer is not None and self._present(device):
            device.hear_answer(answer)

    def leave(self, device: Device, reason: str) -> None:
        """Say that a device has left, once what it has sent has arrived."""
        self._farewell(self._leave(device, reason))

    async def _leave(self, device: Device, reason: str) -> None:
        match, who = device.match, device.who
        await arrived(match)
        device.end_match(reason)
        request = LeavePool(
            app=who.app,
            device=who.id,
            edge=self._edge,
            connection_id=device.connection_id,
            reason=reason,
            match=None if match is None else match.number,
            peer=None if match is None else match.peer,
        )
        await self._ask(device, request, lambda: True)

    def disown(self, subject: str, connection_id: int) -> None:
        """match-engine believes in a connection that is not here (any more): tell it so."""
        app, device = subjects.app_and_device(subject)
        request = StepAway(app=app, device=device, edge=self._edge, connection_id=connection_id)
        self._bus.spawn(self._disown(subjects.match(app, "", device), request))

    async def _disown(self, subject: str, request: StepAway) -> None:
        with contextlib.suppress(TimeoutError):  # then it will be told at the next news
            await self._bus.request(subject, encode(request))

    async def _ask(self, device: Device, request: AnyRequest, wanted: Callable[[], bool]) -> AnyAnswer | None:
        """Ask until it is answered, while the answer is `wanted`."""
        who = device.who
        subject = subjects.match(who.app, cell(who.lat, who.lon), who.id)
        pause = RETRY_MIN
        while wanted():
            try:
                return decode_answer(await self._bus.request(subject, encode(request)))
            except NoRespondersError:  # the partition changes hands: soon somebody will
                _repeated.inc()
                await asyncio.sleep(RETRY_MIN)
            except TimeoutError:
                _repeated.inc()
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)
        return None
