"""Publish facts to the stream EVENTS: bounded, each kept once, never in the way of who publishes."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.js.api import Header, PubAck
from prometheus_client import Counter

from cloudmatch_bus import subjects
from cloudmatch_bus.connection import Bus
from cloudmatch_bus.messages import AnyFact, encode

log = logging.getLogger("facts")

LIMIT = 20_000  # facts that wait, at most
IN_FLIGHT = 512
PATIENCE = 5.0  # s for JetStream's ack, then once more
PAUSE = 0.2  # s after a failure

_refused = Counter("cloudmatch_facts_refused", "Facts lost because the queue to JetStream was full")
_kept = Counter("cloudmatch_facts_kept", "Facts that JetStream has acknowledged")
_retried = Counter("cloudmatch_facts_retried", "Facts sent again because JetStream did not acknowledge")


class _Waiting(NamedTuple):
    subject: str
    payload: bytes
    message_id: str


class FactPublisher:
    """A queue to EVENTS. `publish` never waits; `run` sends in order and again until acknowledged.

    JetStream keeps one of several messages with the same id within two minutes, so a fact sent again,
    or published by two processes under one `key`, counts once.
    """

    def __init__(self, bus: Bus, limit: int = LIMIT) -> None:
        self._bus = bus
        self._js = bus.jetstream()
        self._limit = limit
        self._queue: deque[_Waiting] = deque()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        # distinguishes the ids of this process from those of every other, before and beside it
        self._origin = f"{os.getpid():x}-{time.time_ns():x}"
        self._count = 0

    def publish(self, fact: AnyFact, key: str = "") -> bool:
        """Queue a fact; False (and counted) when the queue is full.

        Args:
            key: names the fact where several processes may publish the same one.
        """
        if len(self._queue) >= self._limit:
            _refused.inc()
            return False
        self._count += 1
        subject = subjects.ev(fact.app, fact.kind, fact.about)
        self._queue.append(_Waiting(subject, encode(fact), key or f"{self._origin}-{self._count}"))
        self._some.set()
        self._none.clear()
        return True

    async def run(self) -> None:
        """Send what is queued, until cancelled."""
        while True:
            await self._some.wait()
            while not self._bus.connected:  # noqa: ASYNC110  # what comes of it is looked at again below
                await asyncio.sleep(PAUSE)
            taken = [self._queue[i] for i in range(min(len(self._queue), IN_FLIGHT))]
            failed = await self._send(taken)
            for _ in taken:
                self._queue.popleft()
            self._queue.extendleft(reversed(failed))
            _kept.inc(len(taken) - len(failed))
            if failed:
                _retried.inc(len(failed))
                await asyncio.sleep(PAUSE)
            if not self._queue:
                self._some.clear()
                self._none.set()

    async def _send(self, facts: Iterable[_Waiting]) -> list[_Waiting]:
        """Send these; give those that were not acknowledged."""
        failed: list[_Waiting] = []
        sent: dict[asyncio.Future[PubAck], _Waiting] = {}
        for fact in facts:
            if not self._bus.connected:
                # A refusal by a full buffer would cost one of the context's places in flight for ever.
                failed.append(fact)
                continue
            try:
                future = await self._js.publish_async(
                    fact.subject, fact.payload, headers={Header.MSG_ID: fact.message_id}, wait_stall=PATIENCE
                )
            except NatsError:
                failed.append(fact)
            else:
                sent[future] = fact
        if sent:
            done, late = await asyncio.wait(sent, timeout=PATIENCE)
            for future in late:
                future.cancel()
                failed.append(sent[future])
            failed.extend(sent[f] for f in done if f.exception() is not None)
        return failed

    async def drain(self, timeout: float = 2.0) -> int:
        """Wait until all queued facts are kept; give how many still wait after `timeout` seconds."""
        try:
            await asyncio.wait_for(self._none.wait(), timeout)
        except TimeoutError:
            log.warning("%d facts were not acknowledged by JetStream", len(self._queue))
        return len(self._queue)
