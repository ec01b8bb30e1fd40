"""The edge's side of the bus: which device a message is for, and timers."""

import asyncio
import logging

import msgspec
from prometheus_client import Gauge

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import STALLED_AFTER
from cloudmatch_bus.contract.messages import (
    DeviceConnected,
    DeviceLeft,
    DeviceReplaced,
    PayloadsDelivered,
    decode_answer,
)
from cloudmatch_bus.process.clock import now_ms, now_us
from cloudmatch_edge.bus.ack_router import LINGER, Ends
from cloudmatch_edge.bus.heartbeat import Pulse
from cloudmatch_edge.bus.match_engine_client import Engine
from cloudmatch_edge.dialects.base import Dialect
from cloudmatch_edge.dialects.close_codes import REPLACED
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import Device, Socket
from cloudmatch_edge.relay.match import Match
from cloudmatch_edge.relay.receiver import ACK_DELAY

log = logging.getLogger("relay")

TICK = 0.05  # s between two looks for what is overdue
FORGET = 10.0  # s beyond its grace for which a device that is away is kept, if nobody says that it expired

_devices = Gauge("cloudmatch_edge_devices", "Devices connected here")
_away = Gauge("cloudmatch_edge_away", "Devices whose connection here dropped and that may return")


class Relay:
    """All devices of one edge."""

    def __init__(self, bus: Bus, name: str, facts: FactPublisher, patience: float, grace: float) -> None:
        """Make a relay whose devices wait `patience` seconds for their peers to make progress, and may be
        away for `grace` seconds if their dialect knows how to return."""
        self.name = name
        self.grace = grace
        self.pulse = Pulse(bus, name, self._introduce_all)
        self.now = asyncio.get_running_loop().time
        self.clock = now_ms
        self.publish = bus.publish
        self._engine = Engine(bus, name, self.pulse.incarnation, self._present, now_us)
        self.seek, self.part, self.doubt = self._engine.seek, self._engine.part, self._engine.doubt
        self._patience = patience
        self._bus = bus
        self._facts = facts
        self._loop = asyncio.get_running_loop()
        # subject on which a device hears → its newest connection
        self._devices: dict[str, Device] = {}
        self._ends = Ends(bus.publish)
        # matches of which something may become overdue
        self._busy: dict[Match, None] = {}
        # matches that owe acks or sizes
        self._soon: dict[Match, None] = {}
        self._session = 0
        self._ticked = self.now()
        bus.on_reconnect.append(self._introduce_all)

    async def start(self) -> None:
        """Subscribe: three wildcards, however many devices."""
        await self._bus.subscribe(subjects.every_dn(self.name), self._on_frames)
        await self._bus.subscribe(subjects.every_ack(self.name), self._on_ack)
        await self._bus.subscribe(subjects.every_ctl(self.name), self._on_ctl)
        self._tick()

    async def drain(self, timeout: float) -> None:
        """Wait until match-engine knows of all who left, and what they sent has arrived or goes on elsewhere,
        but no longer than `timeout` seconds; say that this edge ends."""
        deadline = self.now() + timeout
        if unknown := await self._engine.bid_farewell(timeout):
            log.warning("match-engine did not hear of %d devices that left", unknown)
        while self.now() < deadline and any(m.sending or not m.handover.done for m in self._busy):  # noqa: ASYNC110  # many matches, one deadline
            await asyncio.sleep(TICK)
        self._settle()
        self.pulse.beat(leaving=True)

    # -- devices come and go

    def join(
        self, who: Parameters, socket: Socket, dialect: Dialect, token: str = "", *, resume: bool = False
    ) -> Device:
        """Take a device in: from now on it is in the pool, or goes on where the session `token` is."""
        device = Device(who, self._new_session(), socket, self, dialect)
        if dialect.resumable:
            device.token, device.grace = token, self.grace
        old = self._devices.get(device.subject)
        if resume:
            device.resume()
        if old is not None:
            old.hear_answer(
                DeviceReplaced(connection_id=old.connection_id, by=device.connection_id, edge=self.name)
            )
        self._devices[device.subject] = device
        _devices.inc()
        self._facts.publish(
            DeviceConnected(
                app=who.app,
                at=self.clock(),
                device=who.id,
                edge=self.name,
                connection_id=device.connection_id,
                lat=who.lat,
                lon=who.lon,
                radius=who.radius,
                tag=who.tag,
            )
        )
        self.seek(device)
        return device

    def _new_session(self) -> int:
        self._session = max(self._session + 1, now_us())
        return self._session

    def renew(self, device: Device) -> None:
        """Enter the pool as a new connection: match-engine has given up the one there was."""
        device.connection_id = self._new_session()
        self.seek(device)

    def leave(self, device: Device, code: int) -> None:
        """Let a device go whose socket has ended with `code`."""
        _devices.dec()
        who = device.who
        self._facts.publish(
            DeviceLeft(
                app=who.app,
                at=self.clock(),
                device=who.id,
                edge=self.name,
                connection_id=device.connection_id,
                code=code,
            )
        )
        present = self._present(device)
        if device.dialect.resumable and not device.leaving:
            device.step_away()
            if present and not device.replaced:
                _away.inc()
                self._engine.step_away(device)
                self._loop.call_later(self.grace + FORGET, self.forget, device)
                return
        else:
            self._engine.leave(device, "replaced" if device.replaced or code == REPLACED.code else "left")
        if present:
            del self._devices[device.subject]

    def forget(self, device: Device) -> None:
        """Do not wait any longer for the return of a device that is away."""
        if device.away and self._present(device):
            del self._devices[device.subject]
            _away.dec()
            if not device.replaced:
                device.end_match("expired")

    def _present(self, device: Device) -> bool:
        """Whether this is the newest connection of the device that this edge knows."""
        return self._devices.get(device.subject) is device

    async def _introduce_all(self) -> None:
        """The bus was away, or we were, and may have been forgotten: say again who is here."""
        for device in list(self._devices.values()):
            if not device.away:
                self.seek(device)
            await asyncio.sleep(0)

    # -- what comes by the bus

    def _on_ctl(self, subject: str, _: str, payload: bytes, __: Headers) -> None:
        try:
            answer = decode_answer(payload)
        except msgspec.DecodeError as error:
            log.warning("not an answer on %s: %s", subject, error)
            return
        device = self._devices.get(subjects.dn_from_ctl(subject))
        if device is not None and device.connection_id == answer.connection_id:
            device.hear_answer(answer)
        elif not isinstance(answer, DeviceReplaced):
            log.debug("news on %s for a connection that is gone", subject)
            self._engine.disown(subject, answer.connection_id)

    def _on_frames(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        device = self._devices.get(subject)
        address = subjects.parse_reply(reply)
        if device is not None and address is not None:
            device.hear_frames(address, payload)

    def _on_ack(self, subject: str, _: str, payload: bytes, headers: Headers) -> None:
        address = subjects.parse_reply(subject)
        if address is None or self._ends.hear(address, payload, headers):
            return
        # A peer asks about a match that the device has not heard of: its news is on the way, or was lost.
        device = self._devices.get(subjects.dn_from_ack(address))
        if device is not None:
            device.wonder(address.match)

    # -- what devices ask of the relay

    def fact(self, fact: PayloadsDelivered) -> None:
        """Publish what happened."""
        self._facts.publish(fact)

    def began(self, match: Match) -> None:
        """Listen for acks of a match."""
        self._ends.add(match)

    def ended(self, match: Match) -> None:
        """Listen no more."""
        self._busy.pop(match, None)
        self._ends.remove(match)

    def linger(self, match: Match) -> None:
        """Listen a little longer for acks, then close the match."""
        self._loop.call_later(LINGER, match.close)

    def busy(self, match: Match) -> None:
        """Look after a match until nothing can become overdue."""
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
        frozen, self._ticked = now - self._ticked > STALLED_AFTER, now
        for match in list(self._busy):
            if frozen:  # through no fault of the peers
                match.thaw(now)
            match.tick(now, self._patience)
            if match.idle:
                self._busy.pop(match, None)
        self._loop.call_later(TICK, self._tick)
