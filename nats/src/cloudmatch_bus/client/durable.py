"""Look after a durable consumer of EVENTS: make it, again where it was, and say whether it advances."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import nats.errors
from nats.js.api import ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError
from prometheus_client import Counter

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.errors import described
from cloudmatch_bus.client.progress import Progress
from cloudmatch_bus.contract import streams

log = logging.getLogger("consumer")

LOOK_INTERVAL = 2.0  # s between two looks
MOST_DONE = 50_000  # acknowledged facts remembered between two looks, at most

_remade = Counter("cloudmatch_feed_remade", "Durable consumers that were gone and have been made again")


class DurableState:
    """A durable consumer as the server has it.

    Args:
        new: if it is made for the first time, it begins at the end of the stream.
        on_look: called with the number of facts it has not acknowledged.
    """

    def __init__(
        self, bus: Bus, name: str, *, new: bool = False, on_look: Callable[[int], None] = lambda _: None
    ) -> None:
        self._bus = bus
        self._name = name
        self._new = new
        self._on_look = on_look
        self._floor: int | None = None  # all facts up to this position are acknowledged
        # facts beyond it that this process has acknowledged, by position and time
        self._done: set[tuple[int, float]] = set()
        self._seen = False
        self._problem: str | None = None
        self._failure = ""
        self._progress = Progress()

    def problem(self) -> str | None:
        """Return why it delivers nothing to anyone, or None."""
        return self._problem

    def stalled(self) -> str | None:
        """Return for how long nothing was acknowledged although there are facts, or None."""
        idle = self._progress.stalled(time.monotonic())
        return None if idle is None else f"{self._progress.work} facts wait, none handled for {idle:.0f} s"

    def acknowledged(self, position: int, stored: float) -> None:
        """Note that this process has acknowledged a fact."""
        if len(self._done) >= MOST_DONE:  # the server has not said for long what it knows
            self._done.clear()
        self._done.add((position, stored))

    def is_done(self, position: int, stored: float) -> bool:
        """Whether this process has acknowledged a fact: the server may not have heard of it."""
        return (position, stored) in self._done

    async def keep(self, stop: asyncio.Event) -> None:
        """Look after it until `stop`."""
        while not stop.is_set():
            try:
                await self._look()
            except (nats.errors.Error, TimeoutError) as error:
                if (failure := described(error)) != self._failure:
                    self._failure = failure
                    log.warning("consumer %s: %s", self._name, failure)
            else:
                self._failure = ""
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_INTERVAL)

    async def _look(self) -> None:
        js = self._bus.jetstream()
        try:
            info = await js.consumer_info(streams.EVENTS, self._name)
        except NotFoundError:
            self._problem = f"consumer {self._name} does not exist"
            self._observe(await self._make())
        else:
            self._observe(info)

    async def _make(self) -> ConsumerInfo:
        """Make it, behind what was acknowledged when it was last seen."""
        js = self._bus.jetstream()
        config = stream_config.durable_consumer(self._name, new=self._new and not self._seen)
        if self._seen and self._floor is not None:
            last = (await js.stream_info(streams.EVENTS)).state.last_seq
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            # a stream that was restored from an older copy is not as far
            config.opt_start_seq = min(self._floor, last) + 1
        info = await js.add_consumer(streams.EVENTS, config)
        if self._seen:
            _remade.inc()
            log.warning("consumer %s was gone: made again behind position %d", self._name, self._floor or 0)
        return info

    def _observe(self, info: ConsumerInfo) -> None:
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        self._floor = floor
        self._done = {each for each in self._done if each[0] > floor}
        self._seen = True
        pending = (info.num_pending or 0) + (info.num_ack_pending or 0)
        self._problem = f"consumer {self._name} is paused" if info.paused else None
        self._progress.observe(pending, floor, time.monotonic())
        self._on_look(pending)
