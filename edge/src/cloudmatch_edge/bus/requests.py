"""Sends requests to match-engine as `RequestQueue` decides, and repeats them until they are answered."""

import asyncio
import random
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from cloudmatch_bus.client.connection import Bus, NoRespondersError
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest, encode
from cloudmatch_bus.contract.request_batches import RequestBatch, decode_answers
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_edge.relay.request_queue import Message, RequestQueue, Wanted

_sent = Counter("cloudmatch_edge_requests_sent", "Requests sent to match-engine, repeated ones included")
_repeated = Counter("cloudmatch_edge_requests_repeated", "Requests to match-engine repeated unanswered")
_queued = Gauge("cloudmatch_edge_requests_queued", "Requests to match-engine that are not sent yet")


class Requests:
    """The requests of one edge."""

    def __init__(self, bus: Bus, edge: str) -> None:
        self._bus = bus
        self._edge = edge
        self._loop = asyncio.get_running_loop()
        self._queue = RequestQueue(random.random)
        self._timer: asyncio.TimerHandle | None = None
        _queued.set_function(lambda: len(self._queue))

    async def ask(
        self, lane: str, make: Callable[[], AnyRequest | None], *, departure: bool = False
    ) -> AnyAnswer | None:
        """Send a request until it is answered; None once `make` says that it is not wanted any more.

        Args:
            lane: where it is sent (`subjects.match_lane`).
            make: makes the request when it is sent, and again when it is repeated.
            departure: whether newcomers may go first.
        """
        answer: asyncio.Future[AnyAnswer | None] = self._loop.create_future()

        def done(outcome: AnyAnswer | None) -> None:
            if not answer.done():
                answer.set_result(outcome)

        self._queue.add(Wanted(lane, make, done, departure=departure))
        self._send()
        return await answer

    def _send(self) -> None:
        """Send what may be sent now; come back when more may be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        while (message := self._queue.take(now)) is not None:
            _sent.inc(len(message.wanted))
            _repeated.inc(sum(wanted.repetitions > 0 for wanted in message.wanted))
            self._bus.spawn(self._exchange(message))
        at = self._queue.next_at()
        if at is not None and at > now:
            self._timer = self._loop.call_at(at, self._send)

    async def _exchange(self, message: Message) -> None:
        try:
            answers = await self._request(message)
        except NoRespondersError:  # the partition is changing hands, or there is no worker
            self._queue.not_taken(message, self._loop.time())
        except (TimeoutError, *UNREADABLE):
            self._queue.timed_out(message, self._loop.time())
        else:
            self._queue.answered(message, answers, self._loop.time())
        self._send()

    async def _request(self, message: Message) -> list[AnyAnswer | None]:
        timeout = message.timeout
        batch = RequestBatch(requests=message.requests, patience=timeout)
        subject = subjects.match_batch(message.lane.name, self._edge)
        answers = decode_answers(await self._bus.request(subject, encode(batch), timeout)).answers
        if len(answers) != len(batch.requests):
            raise TimeoutError("not every request has an answer")
        return answers
