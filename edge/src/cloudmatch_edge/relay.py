"""The edge's side of the bus: which device a message is for, timers, and the talk with match-engine."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import h3
import msgspec
from prometheus_client import Counter, Gauge

from cloudmatch_bus import subjects
from cloudmatch_bus.connection import Bus, Headers, no_responders
from cloudmatch_bus.facts import FactPublisher
from cloudmatch_bus.messages import (
    AnyAnswer,
    AnyRequest,
    DeviceConnected,
    DeviceLeft,
    DeviceReplaced,
    LeavePool,
    PayloadsDelivered,
    SeekPartner,
    decode_answer,
    encode,
)
from cloudmatch_edge.device import REPLACED, Device, Match, Socket
from cloudmatch_edge.parameters import Parameters
from cloudmatch_edge.window import ACK_DELAY

log = logging.getLogger("relay")

COARSE = 1  # H3 resolution of the cell that names who serialises a device's pairing
TICK = 0.05  # s between two looks for overdue acks
DOUBT = 0.2  # s that news may take before it is asked for
FAREWELL = 1.0  # s that payloads may still take when their device has left
RETRY_MIN, RETRY_MAX = 0.1, 2.0  # s between two requests

_devices = Gauge("cloudmatch_edge_devices", "Devices connected here")
_matched = Gauge("cloudmatch_edge_matched", "Devices connected here that are in a match")
_repeated = Counter("cloudmatch_edge_requests_repeated", "Requests to match-engine that were not answered")


class Relay:
    """All devices of one edge."""

    def __init__(self, bus: Bus, name: str, facts: FactPublisher, patience: float) -> None:
        """Make a relay whose devices wait `patience` seconds for their peers to make progress."""
        self.name = name
        self._patience = patience
        self._bus = bus
        self._facts = facts
        self._loop = asyncio.get_running_loop()
        # subject on which a device hears → the device
        self._devices: dict[str, Device] = {}
        # beginning of the subjects of its acks → the match
        self._matches: dict[str, Match] = {}
        # matches with frames that wait for acks
        self._busy: dict[Match, None] = {}
        # matches that owe acks or sizes
        self._soon: dict[Match, None] = {}
        self._doubtful: set[Device] = set()
        self._session = 0
        self._leaving = 0
        self._left = asyncio.Event()
        self.now = self._loop.time
        self.publish = bus.publish
        bus.on_reconnect.append(self._ask_all)

    async def start(self) -> None:
        """Subscribe: three wildcards, however many devices."""
        await self._bus.subscribe(subjects.every_dn(self.name), self._on_frames)
        await self._bus.subscribe(subjects.every_ack(self.name), self._on_ack)
        await self._bus.subscribe(subjects.every_ctl(self.name), self._on_ctl)
        self._tick()

    def __len__(self) -> int:
        return len(self._devices)

    # -- devices come and go

    def join(self, who: Parameters, socket: Socket) -> Device:
        """Take a device in: from now on it is in the pool."""
        self._session = max(self._session + 1, time.time_ns() // 1000)
        device = Device(who, self._session, socket, self)
        old = self._devices.get(device.subject)
        if old is not None:
            old.hear_answer(DeviceReplaced(session=old.session))
        self._devices[device.subject] = device
        _devices.set(len(self._devices))
        self._facts.publish(
            DeviceConnected(
                app=who.app,
                at=self.clock(),
                device=who.id,
                edge=self.name,
                session=device.session,
                lat=who.lat,
                lon=who.lon,
                radius=who.radius,
                tag=who.tag,
            )
        )
        self._bus.spawn(self._seek(device))
        return device

    def leave(self, device: Device, code: int) -> None:
        """Let a device go whose socket has ended with `code`."""
        if self._devices.get(device.subject) is device:
            del self._devices[device.subject]
        _devices.set(len(self._devices))
        who = device.who
        self._facts.publish(
            DeviceLeft(
                app=who.app,
                at=self.clock(),
                device=who.id,
                edge=self.name,
                session=device.session,
                code=code,
            )
        )
        self._leaving += 1
        self._left.clear()
        self._bus.spawn(self._depart(device, "replaced" if device.replaced or code == REPLACED else "left"))

    async def drain(self, timeout: float) -> None:
        """Wait until match-engine knows of all who left, `timeout` seconds at most."""
        if self._leaving:
            try:
                await asyncio.wait_for(self._left.wait(), timeout)
            except TimeoutError:
                log.warning("match-engine did not hear of %d devices that left", self._leaving)

    # -- the talk with match-engine

    async def _seek(self, device: Device) -> None:
        """Ask until it is answered, while the device is here."""
        who = device.who
        request = SeekPartner(
            app=who.app,
            device=who.id,
            edge=self.name,
            session=device.session,
            lat=who.lat,
            lon=who.lon,
            radius=who.radius,
            tag=who.tag,
        )
        answer = await self._ask(device, request, lambda: self._devices.get(device.subject) is device)
        if answer is not None:
            device.hear_answer(answer)

    async def _depart(self, device: Device, reason: str) -> None:
        try:
            match = device.match
            deadline = self.now() + FAREWELL
            # What it sent before it left may still arrive.
            while match is not None and not match.sender.idle and self.now() < deadline:  # noqa: ASYNC110  # acks are looked at once a tick anyway
                await asyncio.sleep(TICK)
            device.end_match()
            who = device.who
            request = LeavePool(
                app=who.app,
                device=who.id,
                edge=self.name,
                session=device.session,
                reason=reason,
                match=match.number if match is not None else None,
                peer=match.peer if match is not None else None,
            )
            await self._ask(device, request, lambda: True)
        finally:
            self._leaving -= 1
            if not self._leaving:
                self._left.set()

    async def _ask(self, device: Device, request: AnyRequest, wanted: Callable[[], bool]) -> AnyAnswer | None:
        """Ask match-engine until it answers, while the answer is `wanted`."""
        who = device.who
        subject = subjects.match(who.app, h3.latlng_to_cell(who.lat, who.lon, COARSE), who.id)
        pause = RETRY_MIN
        while wanted():
            try:
                return decode_answer(await self._bus.request(subject, encode(request)))
            except TimeoutError:
                _repeated.inc()
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)
        return None

    async def _ask_all(self) -> None:
        """The bus was away and may have forgotten: say again who is here."""
        for device in list(self._devices.values()):
            self._bus.spawn(self._seek(device))
            await asyncio.sleep(0)

    def doubt(self, device: Device) -> None:
        """Ask where a device stands, unless the news comes by itself."""
        if device not in self._doubtful:
            self._doubtful.add(device)
            self._loop.call_later(DOUBT, self._ask_doubtful, device)

    def _ask_doubtful(self, device: Device) -> None:
        self._doubtful.discard(device)
        if device.puzzled:
            self._bus.spawn(self._seek(device))

    def _on_ctl(self, subject: str, _: str, payload: bytes, __: Headers) -> None:
        try:
            answer = decode_answer(payload)
        except msgspec.DecodeError as error:
            log.warning("not an answer on %s: %s", subject, error)
            return
        device = self._devices.get(subjects.dn_of_ctl(subject))
        if device is not None and device.session == answer.session:
            device.hear_answer(answer)
        elif not isinstance(answer, DeviceReplaced):
            log.info("news on %s for a connection that is gone", subject)
            self._bus.spawn(self._disown(subject, answer.session))

    async def _disown(self, subject: str, session: int) -> None:
        """match-engine believes in a connection that is not here (any more): tell it so."""
        app, device = subjects.app_and_device(subject)
        request = LeavePool(app=app, device=device, edge=self.name, session=session, reason="left")
        with contextlib.suppress(TimeoutError):  # then it will be told at the next news
            await self._bus.request(subjects.match(app, "", device), encode(request))

    # -- frames and acks

    def _on_frames(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        device = self._devices.get(subject)
        address = subjects.parse_reply(reply)
        if device is not None and address is not None:
            device.hear_frames(address, payload)

    def _on_ack(self, subject: str, _: str, __: bytes, headers: Headers) -> None:
        address = subjects.parse_reply(subject)
        match = None if address is None else self._matches.get(address.prefix)
        if match is None or address is None:
            return
        if no_responders(headers):
            match.refused(address.seq)
        elif address.shape == subjects.ACK:
            match.acked(address.seq)

    # -- what devices ask of the relay

    @staticmethod
    def clock() -> int:
        """Give ms since 1970."""
        return time.time_ns() // 1_000_000

    def fact(self, fact: PayloadsDelivered) -> None:
        """Publish what happened."""
        self._facts.publish(fact)

    def began(self, match: Match) -> None:
        """Listen for acks of a match."""
        self._matches[match.prefix] = match
        _matched.inc()

    def ended(self, match: Match) -> None:
        """Listen no more."""
        self._matches.pop(match.prefix, None)
        self._busy.pop(match, None)
        _matched.dec()

    def busy(self, match: Match) -> None:
        """Look after a match until all it sent is acknowledged."""
        self._busy[match] = None

    def soon(self, match: Match) -> None:
        """Let a match tell acks and sizes shortly."""
        if not self._soon:
            self._loop.call_later(ACK_DELAY, self._settle)
        self._soon[match] = None

    def _settle(self) -> None:
        matches, self._soon = self._soon, {}
        for match in matches:
            match.settle()

    def _tick(self) -> None:
        now = self.now()
        for match in list(self._busy):
            match.tick(now, self._patience)
            if match.sender.idle:
                self._busy.pop(match, None)
        self._loop.call_later(TICK, self._tick)
