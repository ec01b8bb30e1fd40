"""Requests about devices to match-engine, repeated until they are answered."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.contract import resume_tokens, subjects
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
)
from cloudmatch_bus.process.summary import Summary
from cloudmatch_edge.bus.requests import Requests
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.match import Match

log = logging.getLogger("match-engine-client")

DELIVERY_TIMEOUT = 1.0  # s for the last payloads of a device that leaves or unmatches
TICK = 0.05  # s between two checks whether they were delivered
VERIFY_AFTER = 0.2  # s for an update to arrive before it is asked for
STALE_PAUSE = 2.0  # s between two requests while answers are older than what is known
UNVERSIONED = (1 << 62, True)  # version of an answer that has none
STALE_LEADER_MAX = 12.0  # s for which a server may not have noticed that it no longer leads the bucket


async def _delivered(match: Match | None) -> None:
    """Wait, briefly, until what a device has sent is delivered."""
    if match is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DELIVERY_TIMEOUT):
            while match.sending:  # noqa: ASYNC110  # acks are checked once a tick anyway
                await asyncio.sleep(TICK)


def _version(answer: AnyAnswer) -> tuple[int, bool]:
    """Version of an answer, as `Device.version`."""
    match answer:
        case DevicePaired(match=number):
            return number, True
        case DeviceWaiting(since=number):
            return number, False
    return UNVERSIONED


class MatchEngineClient:
    """match-engine, as one edge uses it.

    Args:
        incarnation: of this edge.
        newest: the newest connection of a device on this edge, by its `dn` subject.
        announce: publish that a device is connected by the id that it has now.
    """

    def __init__(
        self,
        bus: Bus,
        edge: str,
        incarnation: Callable[[], int],
        newest: Callable[[str], Device | None],
        announce: Callable[[Device], None],
    ) -> None:
        self._bus = bus
        self._requests = Requests(bus, edge)
        self._edge = edge
        self._incarnation = incarnation
        self._newest = newest
        self._announce = announce
        # devices that are being reported → whether they must be again, for they have changed since
        self._seeking: dict[Device, bool] = {}
        self._verifying: set[Device] = set()
        self._starting_over = Summary(log, "bucket lost: devices start over")
        self._disowned: set[tuple[str, int]] = set()
        self._departures = 0  # unanswered by match-engine
        self._no_departures = asyncio.Event()
        self._no_departures.set()

    # -- while a device is connected

    def seek(self, device: Device) -> None:
        """Report who and where a device is, and apply its current state."""
        under_way = device in self._seeking
        self._seeking[device] = True
        if not under_way:
            self._bus.spawn(self._seek(device))

    async def _seek(self, device: Device) -> None:
        try:
            while self._seeking[device] and self._is_here(device):
                await self._seek_once(device)
        finally:
            del self._seeking[device]

    async def _seek_once(self, device: Device) -> None:
        loop = asyncio.get_running_loop()
        # since when answers are older than the version that was known before the request
        behind_since: float | None = None
        while True:
            known = device.version
            answer = await self._ask(device, lambda: self._seek_request(device))
            if answer is None or not self._is_here(device):
                return
            if isinstance(answer, DeviceReplaced) and device.came_later(answer):
                device.connection_id = answer.by + 1
                self._announce(device)
                continue
            if _version(answer) < min(known, device.version):
                # All servers of the bucket have ended, and its revisions restart. Or the answer is from a
                # server that has yet to notice that it no longer leads.
                behind_since = behind_since or loop.time()
                if loop.time() - behind_since < STALE_LEADER_MAX:
                    await asyncio.sleep(STALE_PAUSE)
                    continue
                self._starting_over.add(device.who.id)
                device.reset()
            device.on_answer(answer)
            return

    def _is_current(self, device: Device) -> bool:
        """Whether this is the newest connection of the device on this edge."""
        return self._newest(device.subject) is device

    def _is_here(self, device: Device) -> bool:
        return self._is_current(device) and not device.disconnected

    def _seek_request(self, device: Device) -> SeekPartner | None:
        if not self._is_here(device):
            return None
        self._seeking[device] = False
        who = device.who
        return SeekPartner(
            **self._of(device),
            lat=who.lat,
            lon=who.lon,
            radius=who.radius,
            tag=who.tag,
            location_version=device.location_version,
            incarnation=self._incarnation(),
            grace=device.grace,
            token=resume_tokens.digest(device.token),
            resume=device.resume,
        )

    def verify(self, device: Device) -> None:
        """Ask for the state of a device, unless an update arrives first."""
        if device not in self._verifying:
            self._verifying.add(device)
            asyncio.get_running_loop().call_later(VERIFY_AFTER, self._verify, device)

    def _verify(self, device: Device) -> None:
        self._verifying.discard(device)
        if device.needs_resync and self._is_current(device):
            self.seek(device)

    def leave_match(self, device: Device, match: Match) -> None:
        """End a device's match, once what it has sent is delivered."""
        self._bus.spawn(self._leave_match(device, match))

    async def _leave_match(self, device: Device, match: Match) -> None:
        await _delivered(match)

        def request() -> LeaveMatch | None:
            if device.match is not match or not self._is_current(device):
                return None
            return LeaveMatch(**self._of(device), match=match.number, silent=match.silent)

        await self._apply(device, request)

    # -- departures

    async def wait_for_departures(self, timeout: float) -> int:
        """Wait until match-engine has answered all departures; return how many it has not after `timeout`
        seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_departures.wait(), timeout)
        return self._departures

    def _depart(self, work: Coroutine[Any, Any, None]) -> None:
        async def counted() -> None:
            try:
                await work
            finally:
                self._departures -= 1
                if not self._departures:
                    self._no_departures.set()

        self._departures += 1
        self._no_departures.clear()
        self._bus.spawn(counted())

    def disconnect(self, device: Device) -> None:
        """Report that a device is disconnected and may return."""
        self._depart(self._disconnect(device))

    async def _disconnect(self, device: Device) -> None:
        def request() -> StepAway | None:
            if not self._is_current(device):  # it has returned, or a newer connection is elsewhere
                return None
            match = device.match
            return StepAway(**self._of(device), may_have_sent=match is not None and match.outbound.started)

        await self._apply(device, request, departure=True)

    def leave(self, device: Device, reason: str) -> None:
        """Report that a device has left, once what it has sent is delivered."""
        self._depart(self._leave(device, reason))

    async def _leave(self, device: Device, reason: str) -> None:
        match = device.match
        await _delivered(match)
        device.end_match(reason)

        def request() -> LeavePool | None:
            newest = self._newest(device.subject)
            if newest is not None and newest is not device:  # its own requests replace this connection
                return None
            return LeavePool(
                **self._of(device),
                reason=reason,
                match=None if match is None else match.number,
                peer=None if match is None else match.peer.id,
            )

        await self._ask(device, request, departure=True)

    def disown(self, subject: str, connection_id: int) -> None:
        """Notify match-engine that a connection it still lists here is gone, unless a newer one is reported
        anyway. `subject`: the device's, `dn`."""
        newest = self._newest(subject)
        if newest is not None and newest.connection_id > connection_id:
            return
        if (subject, connection_id) not in self._disowned:
            self._disowned.add((subject, connection_id))
            self._bus.spawn(self._disown(subject, connection_id))

    async def _disown(self, subject: str, connection_id: int) -> None:
        app, device = subjects.app_and_device(subject)

        def request() -> StepAway | None:
            newest = self._newest(subject)
            if newest is not None and newest.connection_id > connection_id:
                return None
            return StepAway(app=app, device=device, edge=self._edge, connection_id=connection_id)

        try:
            await self._requests.ask(subjects.match_lane(app, ""), request, departure=True)
        finally:
            self._disowned.discard((subject, connection_id))

    # -- requests

    def _of(self, device: Device) -> dict[str, Any]:
        """The fields of every request about a device."""
        who = device.who
        return {
            "app": who.app,
            "device": who.id,
            "edge": self._edge,
            "connection_id": device.connection_id,
        }

    async def _apply(
        self, device: Device, make: Callable[[], AnyRequest | None], *, departure: bool = False
    ) -> None:
        """Have a request carried out, unless it is no longer wanted; apply the answer."""
        answer = await self._ask(device, make, departure=departure)
        if answer is not None and self._is_current(device):
            device.on_answer(answer)

    async def _ask(
        self, device: Device, make: Callable[[], AnyRequest | None], *, departure: bool = False
    ) -> AnyAnswer | None:
        who = device.who
        lane = subjects.match_lane(who.app, cell(who.lat, who.lon))
        return await self._requests.ask(lane, make, departure=departure)
