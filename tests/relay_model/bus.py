"""The bus between edges, and the pool that stands for match-engine."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
    SeekPartner,
    StepAway,
    decode_request,
    encode,
)
from cloudmatch_match_engine.core.transitions import closed, resumed

Handler = Callable[[str, str, bytes, Any], None]


class Network:
    """All that is on its way. In trouble, messages are lost, repeated, and late."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.trouble = True
        self.forgets = True  # requests and answers are lost, too
        self.pool = Pool(self)
        # (edge, kind of subject) → what hears there
        self.handlers: dict[tuple[str, str], Handler] = {}

    def carry(self, subject: str, payload: bytes, reply: str) -> None:
        """Take a message on its way, or not."""
        chance, loop = self.chance, asyncio.get_running_loop()
        copies = 1
        # Where a connection began is told once: lost, it costs the sizes of a few payloads.
        if self.trouble and not subject.endswith(f".{subjects.HANDOVER_REPLY}"):
            copies = chance.choices((1, 0, 2), (90, 6, 4))[0]
        for _ in range(copies):
            delay = chance.random() * (0.003 if chance.random() < 0.95 or not self.trouble else 0.4)
            loop.call_later(delay, self._arrive, subject, payload, reply)

    def _arrive(self, subject: str, payload: bytes, reply: str) -> None:
        parts = subject.split(".")
        if parts[3] == "up":
            if target := self.pool.route(subjects.untoken(parts[5])):
                self.carry(target, payload, reply)
            return
        if handler := self.handlers.get((parts[4], parts[3])):
            handler(subject, reply, payload, None)


class Bus:
    """One edge's connection to it."""

    def __init__(self, network: Network, edge: str) -> None:
        self._network = network
        self._edge = edge
        self.alive = True
        self.on_reconnect: list[Callable[[], Awaitable[object]]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def subscribe(self, subject: str, handler: Handler) -> None:
        kind = subject.split(".")[3]
        self._network.handlers[self._edge, kind] = handler

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: object = None) -> bool:
        if self.alive:
            self._network.carry(subject, payload, reply)
        return True

    async def request(self, _: str, payload: bytes, timeout: float = 2.0) -> bytes:
        chance = self._network.chance
        lost = self._network.trouble and self._network.forgets and chance.random() < 0.2
        await asyncio.sleep(chance.random() * 0.004)
        if lost and chance.random() < 0.5:
            raise TimeoutError
        answer = self._network.pool.answer(decode_request(payload))
        await asyncio.sleep(chance.random() * 0.004)
        if lost:
            raise TimeoutError
        return encode(answer)

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def die(self) -> None:
        """As kill -9."""
        self.alive = False
        for task in self._tasks:
            task.cancel()
        for key in [key for key in self._network.handlers if key[0] == self._edge]:
            del self._network.handlers[key]


class Pool:
    """As much of match-engine as edges see: a, b; c, d; … are partners, and matched when both are there."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._records: dict[str, DeviceRecord] = {}
        self._revision = 0

    def route(self, device: str) -> str | None:
        record = self._records.get(device)
        if record is None or record.peer is None:
            return None
        peer = self._records[record.peer]
        return subjects.dn(record.app, peer.edge, peer.device)

    def answer(self, request: AnyRequest) -> AnyAnswer:
        record = self._records.get(request.device)
        match request:
            case SeekPartner():
                return self._seek(request, record)
            case StepAway() if record is not None and record.connection_id == request.connection_id:
                if record.disconnected_at is None:
                    self._records[record.device] = record = closed(record, request, 1)
                    self._tell_peer(record, away=True)
                return self._standing(record)
            case _ if record is None:
                return DeviceGone(connection_id=request.connection_id)
            case _:
                return DeviceReplaced(
                    connection_id=request.connection_id, by=record.connection_id, edge=record.edge
                )

    def _seek(self, request: SeekPartner, record: DeviceRecord | None) -> AnyAnswer:
        if record is None:
            self._revision += 1
            record = DeviceRecord(
                app=request.app,
                device=request.device,
                edge=request.edge,
                connection_id=request.connection_id,
                lat=0,
                lon=0,
                token=request.token,
            )
            self._records[request.device] = record
            self._pair(record)
            return self._standing(self._records[request.device])
        if record.connection_id > request.connection_id:
            return DeviceReplaced(connection_id=request.connection_id, by=record.connection_id)
        if record.connection_id == request.connection_id:
            return (
                DeviceGone(connection_id=request.connection_id) if record.closed else self._standing(record)
            )
        assert request.resume
        assert request.token == record.token
        if record.connection_id < request.connection_id:
            gone = DeviceReplaced(
                connection_id=record.connection_id, by=request.connection_id, edge=request.edge
            )
            self._network.carry(subjects.ctl(record.app, record.edge, record.device), encode(gone), "")
        record = resumed(record, request)
        self._records[request.device] = record
        self._tell_peer(record, away=False)
        return self._standing(record)

    def _pair(self, record: DeviceRecord) -> None:
        number = ord(record.device) - ord("a")
        peer = self._records.get(chr(ord("a") + (number ^ 1)))
        if peer is None:
            return
        match = self._revision
        for one, other in ((record, peer), (peer, record)):
            paired = replace(
                one, match=match, peer=other.device, distance=1.0, matched_connection_id=one.connection_id
            )
            self._records[one.device] = paired
        self._tell(self._records[peer.device], self._standing(self._records[peer.device]))

    def _standing(self, record: DeviceRecord) -> AnyAnswer:
        if record.match is None or record.peer is None:
            return DeviceWaiting(connection_id=record.connection_id, since=self._revision)
        peer = self._records[record.peer]
        return DevicePaired(
            connection_id=record.connection_id,
            match=record.match,
            peer=record.peer,
            distance=1.0,
            matched_connection_id=record.matched_connection_id,
            peer_edge=peer.edge,
            peer_connection_id=peer.connection_id,
            peer_away=peer.disconnected_at is not None,
            previous_connection_id=record.previous_connection_id,
            previous_edge=record.previous_edge,
        )

    def _tell_peer(self, record: DeviceRecord, *, away: bool) -> None:
        if record.match is None or record.peer is None:
            return
        peer = self._records[record.peer]
        if away:
            self._tell(
                peer,
                PeerAway(
                    connection_id=peer.connection_id,
                    match=record.match,
                    peer_connection_id=record.connection_id,
                ),
            )
        else:
            self._tell(
                peer,
                PeerReturned(
                    connection_id=peer.connection_id,
                    match=record.match,
                    peer_edge=record.edge,
                    peer_connection_id=record.connection_id,
                ),
            )

    def _tell(self, record: DeviceRecord, answer: AnyAnswer) -> None:
        self._network.carry(subjects.ctl(record.app, record.edge, record.device), encode(answer), "")
