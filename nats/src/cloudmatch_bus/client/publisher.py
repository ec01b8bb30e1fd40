"""Publish facts to the stream EVENTS: in a bounded queue, each stored once, without blocking the caller."""

import asyncio
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable

import msgspec
from nats.js.api import Header
from nats.js.errors import APIError
from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.backlog import Backlog
from cloudmatch_bus.client.connection import Bus, Headers, no_responders
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import AnyFact, encode
from cloudmatch_bus.process import clock
from cloudmatch_bus.process.counter import PlainCounter

log = logging.getLogger("facts")

LIMIT = 20_000  # facts in the queue or not acknowledged, at most
IN_FLIGHT = 512  # of them sent and not acknowledged, at most
ACK_TIMEOUT = 5.0  # s without JetStream's ack, after which a fact is sent again
STORE_TIMEOUT = 1.0  # the same for facts of which only a few are unstored at a time
ORIGIN = 12  # random bytes in the ids of a process' messages
PAUSE = 0.2  # s between two retries of facts that were refused or not acknowledged

_refused = Counter("cloudmatch_facts_refused", "Facts lost because the queue to JetStream was full")
_kept = PlainCounter("cloudmatch_facts_kept", "Facts acknowledged by JetStream")
_retried = Counter("cloudmatch_facts_retried", "Facts sent again because JetStream did not acknowledge them")
_waiting = Gauge("cloudmatch_facts_waiting", "Facts that JetStream has not stored")
_waiting_seconds = Gauge(
    "cloudmatch_facts_waiting_seconds", "How long facts wait of which JetStream has stored none"
)


def publish_once(bus: Bus, fact: AnyFact, key: str) -> bool:
    """Publish a fact without waiting or knowing whether it is stored; False if that is not possible now.

    Args:
        key: identifies the fact if several processes may publish it.
    """
    subject = subjects.ev(fact.app, fact.kind, fact.primary_device)
    return bus.publish(subject, encode(fact), headers={Header.MSG_ID: key})


class _Ack(msgspec.Struct):
    """JetStream's answer to a published message."""

    error: "_Error | None" = None


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""

    def __str__(self) -> str:
        return described(APIError(self.code, self.description, self.err_code))


_decode_ack = msgspec.json.Decoder(_Ack).decode


class _Fact(msgspec.Struct):
    number: int
    subject: str
    payload: bytes
    headers: dict[str, str]
    timeout: float  # s without an ack, after which it is sent again
    on_stored: Callable[[], None] | None
    substitute: Callable[[], AnyFact] | None  # sent instead, once it is due
    substitute_at: float  # s, of `clock.monotonic`
    sent_at: float = 0.0  # most recently


def _replace(fact: _Fact, substitute: AnyFact) -> None:
    """Send another fact instead, under an id of its own."""
    fact.subject = subjects.ev(substitute.app, substitute.kind, substitute.primary_device)
    fact.payload = encode(substitute)
    fact.headers = {Header.MSG_ID: f"{fact.headers[Header.MSG_ID]}-{substitute.kind}"}
    fact.substitute = None


class FactPublisher:
    """A queue to EVENTS. `publish` never waits; `run` sends facts in order, again until acknowledged.

    JetStream stores one of several messages with the same id within two minutes, so a fact that is sent
    again, or that several processes publish under one `key`, counts once.
    """

    def __init__(self, bus: Bus, limit: int = LIMIT) -> None:
        self._bus = bus
        self._limit = limit
        self._now = asyncio.get_running_loop().time
        self._inbox = bus.client.new_inbox()
        self._subscribed = False
        self._queue: deque[_Fact] = deque()  # to be sent
        self._in_flight: dict[int, _Fact] = {}  # sent, oldest first
        self._failed: list[_Fact] = []  # refused by JetStream, to be sent again after a pause
        self._all_stored = asyncio.Event()  # the three above are empty
        self._all_stored.set()
        # Distinguishes the message ids of this process from those of any other, who must not guess them:
        # JetStream drops a fact whose id it has seen, whoever used it.
        self._origin = secrets.token_hex(ORIGIN)
        self._count = 0
        self._backlog = Backlog()
        _waiting.set_function(lambda: self.pending)
        _waiting_seconds.set_function(lambda: self._backlog.age(self._now()))
        bus.on_reconnect.append(self._reconnected)

    @property
    def pending(self) -> int:
        """Number of facts that JetStream has not acknowledged."""
        return len(self._queue) + len(self._in_flight) + len(self._failed)

    def problem(self) -> str | None:
        """Return why facts wait, if they have waited for long; the process works on."""
        return self._backlog.problem(self.pending, self._now())

    def publish(self, fact: AnyFact, key: str = "") -> bool:
        """Queue a fact; False (and counted) if the queue is full.

        Args:
            key: identifies the fact if several processes may publish it.
        """
        if self.pending >= self._limit:
            _refused.inc()
            return False
        self._enqueue(fact, key, ACK_TIMEOUT)
        return True

    def store(
        self,
        fact: AnyFact,
        on_stored: Callable[[], None],
        substitute: Callable[[], AnyFact] | None = None,
        within: float = math.inf,
    ) -> None:
        """Queue a fact even if the queue is full; call `on_stored` once JetStream has stored it.

        The caller limits how many of its facts are unstored.

        Args:
            substitute: makes what is sent instead of the fact after `within` seconds. By then JetStream may
                have stored the fact, for all that is known.
        """
        self._enqueue(fact, "", STORE_TIMEOUT, on_stored, substitute, clock.monotonic() + within)

    def _enqueue(
        self,
        fact: AnyFact,
        key: str,
        timeout: float,
        on_stored: Callable[[], None] | None = None,
        substitute: Callable[[], AnyFact] | None = None,
        substitute_at: float = math.inf,
    ) -> None:
        self._count += 1
        message_id = key or f"{self._origin}-{self._count}"
        subject = subjects.ev(fact.app, fact.kind, fact.primary_device)
        headers: dict[str, str] = {Header.MSG_ID: message_id}
        self._queue.append(
            _Fact(self._count, subject, encode(fact), headers, timeout, on_stored, substitute, substitute_at)
        )
        self._all_stored.clear()
        self._backlog.wait(self._now())
        self._send()

    async def run(self) -> None:
        """Send queued facts until cancelled."""
        await self._bus.subscribe(f"{self._inbox}.*", self._on_ack)
        self._subscribed = True
        while True:
            now = self._now()
            self._requeue([fact for fact in self._in_flight.values() if now - fact.sent_at > fact.timeout])
            failed, self._failed = self._failed, []
            self._requeue(failed)
            self._send()
            if news := self._backlog.news(self.pending, now):
                log.warning("%s", news)
            await asyncio.sleep(PAUSE)

    async def _reconnected(self) -> None:
        # What was in flight may be lost.
        self._requeue(list(self._in_flight.values()))
        self._send()

    def _requeue(self, facts: list[_Fact]) -> None:
        for fact in facts:
            self._in_flight.pop(fact.number, None)
        self._queue.extendleft(reversed(facts))
        _retried.inc(len(facts))

    def _send(self) -> None:
        if not self._subscribed or not self._bus.connected:
            return
        while self._queue and len(self._in_flight) < IN_FLIGHT:
            fact = self._queue.popleft()
            if fact.substitute is not None and clock.monotonic() > fact.substitute_at:
                _replace(fact, fact.substitute())
            fact.sent_at = self._now()
            self._in_flight[fact.number] = fact
            # One that the bus refuses becomes overdue.
            self._bus.publish(fact.subject, fact.payload, f"{self._inbox}.{fact.number}", fact.headers)

    def _on_ack(self, subject: str, _: str, payload: bytes, headers: Headers) -> None:
        fact = self._in_flight.pop(int(subject.rpartition(".")[2]), None)
        if fact is None:
            return  # sent twice, acknowledged twice
        error = None if headers else _decode_ack(payload).error
        if not headers and error is None:
            _kept.value += 1
            self._backlog.store(self.pending, self._now())
            if fact.on_stored is not None:
                fact.on_stored()
        else:  # no responders, or the stream cannot store it now
            self._failed.append(fact)
            self._backlog.refuse("no stream takes them" if no_responders(headers) else str(error))
        self._send()
        if not self.pending:
            self._all_stored.set()

    async def drain(self, timeout: float = 2.0) -> int:
        """Wait until all queued facts are stored, or for `timeout` seconds; return how many are not."""
        try:
            await asyncio.wait_for(self._all_stored.wait(), timeout)
        except TimeoutError:
            log.warning("facts not acknowledged by JetStream: %d", self.pending)
        return self.pending
