"""The pairing requests of one worker: a bounded number in progress, answered one by one or in batches."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract.claims import requests_on
from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest, encode
from cloudmatch_bus.contract.request_batches import AnswerBatch, RequestBatch
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.summary import Summary
from cloudmatch_match_engine.core.backlog import Backlog, Pending
from cloudmatch_match_engine.dropped import drop, dropped

log = logging.getLogger("requests")

_requests = Counter("cloudmatch_match_engine_requests", "Pairing requests answered", ["answer"])
_queued = Gauge("cloudmatch_match_engine_requests_queued", "Pairing requests that wait to be carried out")

Answer = Callable[[AnyRequest], Awaitable[AnyAnswer]]


class _Answers:
    """The answers to a batch, sent once all are there."""

    def __init__(self, size: int, send: Callable[[bytes], object]) -> None:
        self._answers: list[AnyAnswer | None] = [None] * size
        self._missing = size
        self._send = send

    def put(self, at: int, answer: AnyAnswer | None) -> None:
        """Add the answer to a request; None: it was not carried out."""
        self._answers[at] = answer
        self._missing -= 1
        if not self._missing:
            self._send(encode(AnswerBatch(answers=self._answers)))


class Requests:
    """Carries out requests by `answer`, which raises `TimeoutError` for one that is to be repeated."""

    def __init__(self, bus: Bus, answer: Answer) -> None:
        self._bus = bus
        self._answer = answer
        self._now = asyncio.get_running_loop().time
        self._backlog = Backlog()
        self._unfinished = Summary(log, "requests not finished")
        _queued.set_function(lambda: len(self._backlog))

    def on_request(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        """Queue a request, or a batch of them."""
        try:
            request = requests_on(subject, payload)
        except UNREADABLE as error:
            drop(subject, error)
            return
        if not reply:  # nobody waits for the answer
            dropped.labels("no_address").inc()
            return
        now = self._now()
        if isinstance(request, RequestBatch):
            answers = _Answers(len(request.requests), partial(self._bus.publish, reply))
            for at, each in enumerate(request.requests):
                self._backlog.add(each, now, request.patience, partial(answers.put, at))
        else:
            self._backlog.add(request, now, request.patience, partial(self._reply, reply))
        self._start()

    def _reply(self, reply: str, answer: AnyAnswer | None) -> None:
        if answer is not None:
            self._bus.publish(reply, encode(answer))

    def _start(self) -> None:
        while (pending := self._backlog.take(self._now())) is not None:
            self._bus.spawn(self._carry_out(pending))

    async def _carry_out(self, pending: Pending) -> None:
        request, answer = pending.request, None
        try:
            answer = await self._answer(request)
        except TimeoutError as error:  # the edge repeats it
            self._unfinished.add(f"of {request.app}/{request.device}: {error}")
        finally:
            self._backlog.done(pending)
            self._start()
        _requests.labels("none" if answer is None else str(answer.__struct_config__.tag)).inc()
        pending.answered(answer)

    async def drain(self, timeout: float) -> None:
        """Wait until nothing is queued any more, at most `timeout` seconds."""
        deadline = self._now() + timeout
        while len(self._backlog) and self._now() < deadline:  # noqa: ASYNC110  # one deadline
            await asyncio.sleep(0.05)
