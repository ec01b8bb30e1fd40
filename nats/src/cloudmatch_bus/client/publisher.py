"""Publish facts to the stream EVENTS: bounded, each kept once, never in the way of who publishes."""

import asyncio
import logging
import os
import time
from collections import deque

import msgspec
from nats.js.api import Header
from prometheus_client import Counter

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import AnyFact, encode
from cloudmatch_bus.process.counter import PlainCounter

log = logging.getLogger("facts")

LIMIT = 20_000  # facts that wait, at most
IN_FLIGHT = 512  # of them sent and not acknowledged, at most
PATIENCE = 5.0  # s for JetStream's ack, then once more
PAUSE = 0.2  # s between two looks for what has failed or is overdue

_refused = Counter("cloudmatch_facts_refused", "Facts lost because the queue to JetStream was full")
_kept = PlainCounter("cloudmatch_facts_kept", "Facts that JetStream has acknowledged")
_retried = Counter("cloudmatch_facts_retried", "Facts sent again because JetStream did not acknowledge")


class _Ack(msgspec.Struct):
    """JetStream's word on a message."""

    error: dict[str, object] | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class _Fact(msgspec.Struct):
    number: int
    subject: str
    payload: bytes
    headers: dict[str, str]
    sent: float = 0.0  # when last


class FactPublisher:
    """A queue to EVENTS. `publish` never waits; facts go in order, and again until acknowledged while `run`.

    JetStream keeps one of several messages with the same id within two minutes, so a fact sent again,
    or published by two processes under one `key`, counts once.
    """

    def __init__(self, bus: Bus, limit: int = LIMIT) -> None:
        self._bus = bus
        self._limit = limit
        self._now = asyncio.get_running_loop().time
        self._inbox = bus.client.new_inbox()
        self._listening = False
        self._queue: deque[_Fact] = deque()  # to be sent
        self._flying: dict[int, _Fact] = {}  # sent, oldest first
        self._failed: list[_Fact] = []  # refused by JetStream: to be sent again in a while
        self._none = asyncio.Event()  # none of these has any
        self._none.set()
        # distinguishes the ids of this process from those of every other, before and beside it
        self._origin = f"{os.getpid():x}-{time.time_ns():x}"
        self._count = 0
        bus.on_reconnect.append(self._reconnected)

    @property
    def waiting(self) -> int:
        """Facts that JetStream has not acknowledged."""
        return len(self._queue) + len(self._flying) + len(self._failed)

    def publish(self, fact: AnyFact, key: str = "") -> bool:
        """Queue a fact; False (and counted) when the queue is full.

        Args:
            key: names the fact where several processes may publish the same one.
        """
        if self.waiting >= self._limit:
            _refused.inc()
            return False
        self._count += 1
        message_id = key or f"{self._origin}-{self._count}"
        subject = subjects.ev(fact.app, fact.kind, fact.primary_device)
        self._queue.append(_Fact(self._count, subject, encode(fact), {Header.MSG_ID: message_id}))
        self._none.clear()
        self._send()
        return True

    async def run(self) -> None:
        """See to it that all that is queued is kept, until cancelled."""
        await self._bus.subscribe(f"{self._inbox}.*", self._on_ack)
        self._listening = True
        while True:
            overdue = self._now() - PATIENCE
            self._again([fact for fact in self._flying.values() if fact.sent < overdue])
            failed, self._failed = self._failed, []
            self._again(failed)
            self._send()
            await asyncio.sleep(PAUSE)

    async def _reconnected(self) -> None:
        # What was on its way may be lost.
        self._again(list(self._flying.values()))
        self._send()

    def _again(self, facts: list[_Fact]) -> None:
        for fact in facts:
            self._flying.pop(fact.number, None)
        self._queue.extendleft(reversed(facts))
        _retried.inc(len(facts))

    def _send(self) -> None:
        if not self._listening or not self._bus.connected:
            return
        while self._queue and len(self._flying) < IN_FLIGHT:
            fact = self._queue.popleft()
            fact.sent = self._now()
            self._flying[fact.number] = fact
            # One that the client refuses is overdue some day.
            self._bus.publish(fact.subject, fact.payload, f"{self._inbox}.{fact.number}", fact.headers)

    def _on_ack(self, subject: str, _: str, payload: bytes, headers: Headers) -> None:
        fact = self._flying.pop(int(subject.rpartition(".")[2]), None)
        if fact is None:
            return  # sent twice, acknowledged twice
        if headers is None and _decode_ack(payload).error is None:
            _kept.value += 1
        else:  # nobody listens there, or the stream cannot take it now
            self._failed.append(fact)
        self._send()
        if not self.waiting:
            self._none.set()

    async def drain(self, timeout: float = 2.0) -> int:
        """Wait until all queued facts are kept; give how many still wait after `timeout` seconds."""
        try:
            await asyncio.wait_for(self._none.wait(), timeout)
        except TimeoutError:
            log.warning("%d facts were not acknowledged by JetStream", self.waiting)
        return self.waiting
