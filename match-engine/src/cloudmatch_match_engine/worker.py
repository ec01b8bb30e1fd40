"""A worker: answers pairing requests, routes frames. Any number share the work in one queue group."""

import asyncio
import logging

import msgspec
from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.bucket import Bucket, BucketWatcher, Entry
from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.client.micro import Endpoint, EndpointError, micro_service
from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    AnyRequest,
    DeviceRecord,
    SeekPartner,
    Tombstone,
    decode_device,
    decode_pair,
    decode_request,
    decode_tombstone,
    encode,
)
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application, serve
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment, until_stopped
from cloudmatch_bus.process.settings import HttpSettings, variable
from cloudmatch_match_engine.core.explain import Explanation, explain
from cloudmatch_match_engine.core.keys import DeviceId, parse_device, source_of
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.http_api import routes
from cloudmatch_match_engine.pairing.handler import Pairing
from cloudmatch_match_engine.partitions import Partitions, unique_name
from cloudmatch_match_engine.settings import MatchEngineSettings
from cloudmatch_match_engine.sweeps import Sweeps

log = logging.getLogger("worker")

FAREWELLS = 32  # devices that leave at once, or their match: newcomers need not wait for a crowd that goes

_routed = PlainCounter("cloudmatch_match_engine_routed", "Messages with frames passed on to the peer's edge")
_dropped = Counter("cloudmatch_match_engine_dropped", "Messages with frames not passed on", ["reason"])
_requests = Counter("cloudmatch_match_engine_requests", "Pairing requests answered", ["answer"])
_waiting = Gauge("cloudmatch_match_engine_waiting", "Devices that wait, as this worker knows")
_known = Gauge("cloudmatch_match_engine_devices", "Devices connected or away, as this worker knows")


class Wanted(msgspec.Struct, frozen=True):
    """What is asked on the bus to be explained."""

    id: str
    app: str = "default"


decode_wanted = msgspec.json.Decoder(Wanted).decode


class Worker:
    """The shell: turns messages into calls of the engine and its decisions into messages."""

    def __init__(self, bus: Bus, reach: float) -> None:
        self._bus = bus
        self._reach = reach
        self._roster = Roster(reach)
        _known.set_function(lambda: len(self._roster))
        _waiting.set_function(self._roster.count_waiting)
        self._facts = FactPublisher(bus)
        self._pairing = Pairing(Bucket(bus), self._roster, self, clock=now_ms, reach=reach)
        self._watch = BucketWatcher(bus, self._on_entry, self._roster.restart, self._on_ready)
        self._farewells = asyncio.Semaphore(FAREWELLS)
        # devices about which the leader is being asked
        self._asking: set[DeviceId] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; finish what was begun."""
        tasks = [asyncio.create_task(self._watch.run()), asyncio.create_task(self._facts.run())]
        try:
            # Requests are not taken before the mirror can answer for the pool.
            await until_stopped(stop, self._watch.synced.wait())
            partitions = Partitions(self._bus, unique_name(), self._on_frames, self._on_request, self._doubt)
            self._doubt()
            sweeps = Sweeps(
                self._bus, self._roster, self._pairing, now_ms, partitions.owns, lambda: partitions.in_touch
            )
            tasks.append(asyncio.create_task(sweeps.run()))
            asked = Endpoint("explain", subjects.explain(), self._on_explain)
            async with micro_service(
                self._bus, "match-engine", "pairs devices; why is one not matched?", asked
            ):
                await partitions.run(stop)
            await self._bus.wait_for_tasks()
            await self._facts.drain()
        finally:
            for task in tasks:
                task.cancel()

    def explain(self, app: str, device: str) -> Explanation | None:
        """Say where a device stands, and why.

        Raises:
            LookupError: the mirror is not complete.
        """
        if reason := self._watch.health():
            raise LookupError(reason)
        return explain(self._roster, app, device, self._reach, now_ms())

    def _on_explain(self, payload: bytes) -> bytes:
        try:
            wanted = decode_wanted(payload)
            explanation = self.explain(wanted.app, wanted.id)
        except msgspec.DecodeError as error:
            raise EndpointError(400, str(error)) from None
        except LookupError as error:
            raise EndpointError(503, str(error)) from None
        if explanation is None:
            raise EndpointError(404, f"no device '{wanted.id}' is connected in app '{wanted.app}'")
        return encode(explanation)

    def checks(self, health: Health) -> None:
        """Add the checks of this worker."""
        health.set_check("nats", self._bus.health)
        health.set_check("bucket", self._watch.health)

    # -- frames

    def _on_frames(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        source = source_of(subject)
        address = subjects.parse_reply(reply)
        if source is None or address is None:
            _dropped.labels("no_address").inc()
            return
        route = self._roster.route(source)
        if route is not None and route.match == address.match:
            self._bus.publish(route.subject, payload, reply)
            _routed.value += 1
        elif source not in self._asking:
            self._asking.add(source)
            self._bus.spawn(self._ask(source, address.match))
        # What is not passed on is sent again by its edge.

    async def _ask(self, source: DeviceId, match: int) -> None:
        """The mirror does not know this match of the device: behind, or the device's edge is."""
        app, device = subjects.untoken(source.app), subjects.untoken(source.device)
        try:
            behind = await self._pairing.catch_up(app, device, match)
            if not behind:
                _dropped.labels("stale_match").inc()
                await self._pairing.remind(app, device)
        except TimeoutError as error:
            log.warning("cannot tell where frames of %s go: %s", device, error)
        finally:
            self._asking.discard(source)

    # -- requests

    def _on_request(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        try:
            request = decode_request(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("not a request on %s: %s", subject, error)
            _dropped.labels("bad_request").inc()
            return
        self._bus.spawn(self._answer(request, reply))

    async def _answer(self, request: AnyRequest, reply: str) -> None:
        try:
            if isinstance(request, SeekPartner):
                answer = await self._pairing.answer(request)
            else:
                async with self._farewells:
                    answer = await self._pairing.answer(request)
        except TimeoutError as error:
            # No answer: the edge asks again.
            log.warning("request of %s/%s not finished: %s", request.app, request.device, error)
            _requests.labels("none").inc()
            return
        self._bus.publish(reply, encode(answer))
        _requests.labels(str(answer.__struct_config__.tag)).inc()

    # -- what the engine says

    def edge(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        """Tell the edge that holds a device."""
        self._bus.publish(subjects.ctl(record.app, record.edge, record.device), encode(answer))

    def fact(self, fact: AnyFact, key: str) -> None:
        """Publish a fact once, however many workers say it."""
        self._facts.publish(fact, key)

    # -- the mirror

    def _on_entry(self, entry: Entry) -> None:
        device = parse_device(entry.key)
        if device is not None:
            record = None if entry.value is None else decode_device(entry.value)
            self._roster.put(device, record, entry.revision)
        else:
            if entry.value is not None:
                self._pairing.recent.saw(decode_pair(entry.value), now_ms())
            elif entry.tombstone:
                self._pairing.recent.saw(decode_tombstone(entry.tombstone), now_ms())
            self._roster.advance(entry.revision)
        self._pairing.mirror_moved()

    def _doubt(self) -> None:
        self._pairing.recent.doubt(now_ms())

    def _on_ready(self) -> None:
        self._roster.complete()
        log.info("knows %d devices, %d of them wait", len(self._roster), self._roster.count_waiting())


async def work(environment: Environment, stop: asyncio.Event) -> None:
    """Serve probes; connect, provision and work, until `stop`."""
    settings = environment[MatchEngineSettings]
    sock = listen(settings.host, settings.own_port, variable(MatchEngineSettings, "port"))
    health = Health()
    working: list[Worker] = []

    def explained(app: str, device: str) -> Explanation | None:
        if not working:
            raise LookupError("not connected to NATS yet")
        return working[0].explain(app, device)

    origins = environment[HttpSettings].allowed_origins
    probes = application("CloudMatch match-engine", health, routes(explained), origins)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(probes, "match-engine", sock, stop))
        async with connected_bus(environment[NatsSettings], "match-engine", health, stop) as bus:
            if bus is not None:
                worker = Worker(bus, settings.reach)
                worker.checks(health)
                working.append(worker)
                await worker.run(stop)
