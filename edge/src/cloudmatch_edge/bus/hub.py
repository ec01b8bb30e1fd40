"""The devices of one edge: which device a message is for, and their arrival and departure."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import Gauge

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    DeviceConnected,
    DeviceLeft,
    DeviceReplaced,
    decode_answer,
)
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.clock import monotonic, now_ms, now_us
from cloudmatch_bus.process.summary import Summary
from cloudmatch_edge.admission.stay import FOREVER, Stay
from cloudmatch_edge.bus.ack_router import AckRouter
from cloudmatch_edge.bus.active_matches import TICK, ActiveMatches
from cloudmatch_edge.bus.counting import Counting
from cloudmatch_edge.bus.heartbeat import HeartbeatLoop
from cloudmatch_edge.bus.match_engine_client import MatchEngineClient
from cloudmatch_edge.dialects.base import Dialect
from cloudmatch_edge.dialects.close_codes import REPLACED
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.connects import Connects
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.inbound import MalformedBatchError
from cloudmatch_edge.relay.match import Match
from cloudmatch_edge.relay.ports import Claimed, Delivered, Publish, Socket
from cloudmatch_edge.relay.rate_limit import UNLIMITED, Limits

log = logging.getLogger("hub")

TOKENS_WATCHED = 1.0  # s between two looks at which tokens have expired
FORGET_AFTER = 10.0  # s beyond its grace for which a disconnected device is kept, if no update ends it

_devices = Gauge("cloudmatch_edge_devices", "Devices connected to this edge")
_max_devices = Gauge("cloudmatch_edge_max_devices", "Devices that this edge accepts; 0: unlimited")
_fullness = Gauge(
    "cloudmatch_edge_fullness_ratio", "Devices connected, as a share of those accepted; 0 if unlimited"
)
_disconnected = Gauge("cloudmatch_edge_away", "Devices disconnected from this edge that may return")


class EdgeBus(NamedTuple):
    """The bus, and the time, as devices and matches use them (`BusPort`): attributes, lest each call cost
    two."""

    name: str
    now: Callable[[], float]
    clock: Callable[[], int]
    publish: Publish
    delivered: Delivered
    claimed: Claimed


def _continues(old: Device, token: str | None) -> bool:
    """Whether a connection with this token is of the same client as an older one."""
    return token is not None and token == old.token


class Hub:
    """All devices of one edge.

    Args:
        patience: s without progress of its peer after which a device is closed.
        grace: s for which a device may be disconnected if its dialect can resume.
        max_devices: connected at the same time; 0: unlimited.
        limits: of each device and app.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        facts: FactPublisher,
        patience: float,
        grace: float,
        max_devices: int = 0,
        limits: Limits = UNLIMITED,
    ) -> None:
        self.grace = grace
        self.connected = 0  # devices; of those with several connections the newest counts
        self._max_devices = max_devices
        _max_devices.set(max_devices)
        self.heartbeat = HeartbeatLoop(bus, name, self._report_all, lambda: self.connected, max_devices)
        self._bus = bus
        self._facts = facts
        self._loop = asyncio.get_running_loop()
        self._counting = Counting(
            facts, name, self.heartbeat.incarnation, lambda: self._matches.sizes_pending
        )
        self._port = EdgeBus(name, monotonic, now_ms, bus.publish, self._counting.count, self._counting.claim)
        self._router = AckRouter(self._port)
        self._matches = ActiveMatches(self._router, patience, self._counting, limits.silent_match)
        self._match_engine = MatchEngineClient(
            bus,
            name,
            lambda: self.heartbeat.incarnation,
            lambda subject: self._devices.get(subject),
            self._announce,
        )
        # `dn` subject of a device → its newest connection
        self._devices: dict[str, Device] = {}
        self._limits = limits
        self._connects = Connects(limits.connects)
        self._per_app: Counter[str] = Counter()  # devices connected
        self._malformed = Summary(log, "malformed messages dropped")
        bus.on_reconnect.append(self._report_all)

    async def start(self) -> None:
        """Subscribe: three wildcards, however many devices."""
        name = self._port.name
        await self._bus.subscribe(subjects.every_dn(name), self._on_batch)
        await self._bus.subscribe(subjects.every_ack(name), self._on_ack)
        await self._bus.subscribe(subjects.every_ctl(name), self._on_ctl)
        self._matches.tick()

    def begin_drain(self) -> None:
        """Announce that devices are no longer accepted."""
        self.heartbeat.drain()

    async def drain(self, timeout: float) -> None:
        """Wait until match-engine has been notified of all departures, and what the devices sent was
        delivered or handed over, at most `timeout` seconds; then announce the end of this edge."""
        deadline = self._loop.time() + timeout
        if unanswered := await self._match_engine.wait_for_departures(timeout):
            log.warning("shutting down: %d departures unanswered by match-engine", unanswered)
        while self._loop.time() < deadline and self._matches.draining:  # noqa: ASYNC110  # one deadline
            await asyncio.sleep(TICK)
        self._matches.settle()
        self.heartbeat.publish(leaving=True)

    # -- devices come and go

    @property
    def full(self) -> str | None:
        """Why no further device is accepted, or None."""
        if not self._max_devices or self.connected < self._max_devices:
            return None
        return f"full: {self.connected} of {self._max_devices} devices"

    def replaces(self, who: Parameters) -> bool:
        """Whether a connection would replace one of the same device."""
        old = self._devices.get(subjects.dn(who.app, self._port.name, who.id))
        return old is not None and not old.disconnected

    def app_full(self, who: Parameters) -> bool:
        """Whether the app of a device has as many here as it may."""
        return 0 < self._limits.per_app <= self._per_app[who.app]

    def wait(self, who: Parameters) -> float:
        """How many seconds a device has to wait, because its id connected or was taken over often lately."""
        return self._connects.wait(subjects.dn(who.app, self._port.name, who.id), monotonic())

    def join(
        self,
        who: Parameters,
        socket: Socket,
        dialect: Dialect,
        token: str = "",
        stay: Stay = FOREVER,
        *,
        resume: bool = False,
        waited: float = 0.0,
    ) -> Device:
        """Add a connection for which the client asked `waited` seconds ago: its device enters the pool, or
        resumes the session of `token`. If the client has asked again since, it is superseded at once."""
        old = self._devices.get(subjects.dn(who.app, self._port.name, who.id))
        device = Device(
            who,
            now_us() - round(waited * 1e6),
            socket,
            dialect,
            self._port,
            self._matches,
            self,
            stay=stay,
            token=token if dialect.resumable else "",
            grace=self.grace if dialect.resumable else 0.0,
            resume=resume,
            asked_at=monotonic() - waited,
            control=self._limits.control,
        )
        self._connects.connected(device.subject, monotonic())
        if old is not None:
            if old.asked_at > device.asked_at and not old.disconnected:
                device.connection_id = min(device.connection_id, old.connection_id - 1)
                device.supersede(old.connection_id, self._port.name)
                return device
            if not old.disconnected:
                self._count(old, -1)
                if not _continues(old, who.resume):
                    self._connects.taken_over(device.subject, monotonic())
            device.connection_id = max(device.connection_id, old.connection_id + 1)
            old.supersede(device.connection_id, self._port.name)
        self._devices[device.subject] = device
        self._count(device, 1)
        self._announce(device)
        self.seek(device)
        return device

    def _announce(self, device: Device) -> None:
        """Publish under which id a device is connected, whenever its connection gets one: who counts
        connections orders them by their ids."""
        who = device.who
        self._facts.publish(
            DeviceConnected(
                app=who.app,
                at=self._port.clock(),
                device=who.id,
                edge=self._port.name,
                connection_id=device.connection_id,
                lat=who.lat,
                lon=who.lon,
                radius=who.radius,
                tag=who.tag,
            )
        )

    def leave(self, device: Device, code: int) -> None:
        """Remove a connection that was closed with `code`."""
        who = device.who
        self._facts.publish(
            DeviceLeft(
                app=who.app,
                at=self._port.clock(),
                device=who.id,
                edge=self._port.name,
                connection_id=device.connection_id,
                code=code,
            )
        )
        current = self._is_current(device)
        if current:
            self._count(device, -1)
            if device.replaced:  # by a connection to another edge
                self._connects.taken_over(device.subject, monotonic())
        if device.dialect.resumable and not device.leaving:
            device.disconnect()
            if current and not device.replaced:
                _disconnected.inc()
                self._match_engine.disconnect(device)
                self._loop.call_later(self.grace + FORGET_AFTER, self.forget, device)
                return
        else:
            replaced = device.replaced or code == REPLACED.code
            self._match_engine.leave(device, "replaced" if replaced else "left")
        if current:
            del self._devices[device.subject]

    def _count(self, device: Device, change: int) -> None:
        self.connected += change
        app = device.who.app
        self._per_app[app] += change
        if not self._per_app[app]:
            del self._per_app[app]
        _devices.set(self.connected)
        _fullness.set(self.connected / self._max_devices if self._max_devices else 0)

    def _is_current(self, device: Device) -> bool:
        """Whether this is the newest connection of the device on this edge."""
        return self._devices.get(device.subject) is device

    async def watch_tokens(self) -> None:
        """Close whose token has expired, until cancelled."""
        while True:
            await asyncio.sleep(TOKENS_WATCHED)
            now = monotonic()
            for device in list(self._devices.values()):
                device.check_token(now)

    async def _report_all(self) -> None:
        """Report all devices again: the bus or this process stood still, and they may have been dropped."""
        for device in list(self._devices.values()):
            if not device.disconnected:
                self.seek(device)
            await asyncio.sleep(0)

    # -- messages from the bus

    def _on_ctl(self, subject: str, _: str, payload: bytes, __: Headers) -> None:
        try:
            answer = decode_answer(payload)
        except UNREADABLE as error:
            self._malformed.add(f"update on {subject}: {error}")
            return
        dn = subjects.dn_from_ctl(subject)
        device = self._devices.get(dn)
        if device is not None and device.connection_id == answer.connection_id:
            device.on_answer(answer)
        elif not isinstance(answer, DeviceReplaced):
            log.debug("update on %s dropped: connection gone", subject)
            self._match_engine.disown(dn, answer.connection_id)

    def _on_batch(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        device = self._devices.get(subject)
        address = subjects.parse_reply(reply)
        if device is None or address is None:
            return
        try:
            device.on_batch(address, payload)
        except MalformedBatchError as error:
            self._malformed.add(f"batch on {subject}: {error}")

    def _on_ack(self, subject: str, _: str, payload: bytes, headers: Headers) -> None:
        address = subjects.parse_reply(subject)
        if address is None or self._router.route(address, payload, headers):
            return
        # A peer asks about a match that was not announced here: the update is on its way, or was lost.
        device = self._devices.get(subjects.dn_from_ack(address))
        if device is not None:
            device.on_unannounced_match(address.match)

    # -- matchmaking, as devices use it (`Matchmaking`)

    def seek(self, device: Device) -> None:
        """Report who and where a device is, and get its current state."""
        self._match_engine.seek(device)

    def leave_match(self, device: Device, match: Match) -> None:
        """End a match of a device."""
        self._match_engine.leave_match(device, match)

    def verify(self, device: Device) -> None:
        """Get the current state of a device, unless an update arrives first."""
        self._match_engine.verify(device)

    def rejoin(self, device: Device) -> None:
        """Enter the pool as a new connection: match-engine has dropped the old one."""
        device.connection_id, device.asked_at = max(now_us(), device.connection_id + 1), monotonic()
        self._announce(device)
        self.seek(device)

    def forget(self, device: Device) -> None:
        """Stop waiting for the return of a disconnected device."""
        if device.disconnected and self._is_current(device):
            del self._devices[device.subject]
            _disconnected.dec()
            if not device.replaced:
                device.end_match("expired")
