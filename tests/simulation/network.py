"""The bus: it delays, loses, repeats and reorders messages."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloudmatch_bus.client.connection import NoRespondersError

Handler = Callable[[str, str, bytes, Any], None]
INBOX = "_INBOX"


@dataclass(eq=False)
class Subscription:
    """A handler of the subjects that a pattern matches; one of those of a queue group gets a message."""

    pattern: list[str]
    handler: Handler
    queue: str

    def matches(self, words: list[str]) -> bool:
        pattern = self.pattern
        if pattern[-1] == ">":
            pattern, words = pattern[:-1], words[: len(pattern) - 1]
        return len(pattern) == len(words) and all(
            one in ("*", other) for one, other in zip(pattern, words, strict=True)
        )


class Network:
    """All messages in transit.

    In `trouble`, messages are lost, repeated and late; if it `loses_requests`, so are requests and replies.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.trouble = True
        self.loses_requests = True
        self.loses: Callable[[bytes], bool] = lambda _: False  # what is lost in any case
        self._subscriptions: list[Subscription] = []
        self._receivers: dict[str, list[Subscription]] = {}  # by subject, as far as looked up
        self._inboxes: dict[str, asyncio.Future[bytes]] = {}
        self._requests = 0

    def subscribe(self, subject: str, handler: Handler, queue: str) -> Subscription:
        subscription = Subscription(subject.split("."), handler, queue)
        self._subscriptions.append(subscription)
        self._receivers.clear()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
        self._receivers.clear()

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Deliver a message some time later, or not."""
        if self.loses(payload):
            return
        chance, loop = self.chance, asyncio.get_running_loop()
        copies = 1
        request = subject.startswith(INBOX) or reply.startswith(INBOX)
        if request:
            copies = 0 if self.trouble and self.loses_requests and chance.random() < 0.1 else 1
        elif self.trouble:
            copies = chance.choices((1, 0, 2), (90, 6, 4))[0]
        for _ in range(copies):
            late = self.trouble and not request and chance.random() < 0.05
            loop.call_later(
                chance.random() * (0.4 if late else 0.003), self._deliver, subject, payload, reply
            )

    def _deliver(self, subject: str, payload: bytes, reply: str) -> None:
        if subject.startswith(INBOX):
            inbox = self._inboxes.get(subject)
            if inbox is not None and not inbox.done():
                inbox.set_result(payload)
            return
        groups: dict[str, list[Subscription]] = {}
        for subscription in self._receivers_of(subject):
            if subscription.queue:
                groups.setdefault(subscription.queue, []).append(subscription)
            else:
                subscription.handler(subject, reply, payload, None)
        for group in groups.values():
            self.chance.choice(group).handler(subject, reply, payload, None)

    def _receivers_of(self, subject: str) -> list[Subscription]:
        found = self._receivers.get(subject)
        if found is None:
            words = subject.split(".")
            found = self._receivers[subject] = [s for s in self._subscriptions if s.matches(words)]
        return found

    async def request(self, subject: str, payload: bytes, timeout: float) -> bytes:
        if not self._receivers_of(subject):
            raise NoRespondersError(subject)
        self._requests += 1
        inbox = f"{INBOX}.{self._requests}"
        reply = self._inboxes[inbox] = asyncio.get_running_loop().create_future()
        try:
            self.publish(subject, payload, inbox)
            return await asyncio.wait_for(reply, timeout)
        finally:
            del self._inboxes[inbox]


class SimulatedBus:
    """A process's connection to the network, as much of `Bus` as edges and workers use."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.alive = True
        self._cut_until = 0.0
        self._held: list[Callable[[], object]] = []  # until it ends
        self.on_reconnect: list[Callable[[], Awaitable[object]]] = []
        self._subscriptions: list[Subscription] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in order, so that a seed repeats

    @property
    def trouble(self) -> bool:
        """Whether messages are lost."""
        return self._network.trouble

    def cut(self, seconds: float) -> None:
        """Let nothing pass for a while: what is sent comes late, half of what should arrive is lost."""
        if not self.cut_for:
            self._cut_until = asyncio.get_running_loop().time() + seconds
            asyncio.get_running_loop().call_at(self._cut_until, self._heal)

    def _heal(self) -> None:
        held, self._held = self._held, []
        for pass_on in held:
            if self.alive:
                pass_on()

    @property
    def cut_for(self) -> float:
        """How long nothing will pass, in s; 0: it passes."""
        return max(0.0, self._cut_until - asyncio.get_running_loop().time())

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        def receive(*message: Any) -> None:
            if not self.cut_for:
                handler(*message)
            elif self._network.chance.random() < 0.5:
                self._held.append(partial(handler, *message))

        self._subscriptions.append(self._network.subscribe(subject, receive, queue))
        return self._subscriptions[-1]

    async def unsubscribe(self, subscription: Subscription) -> None:
        if self.alive:
            self._subscriptions.remove(subscription)
            self._network.unsubscribe(subscription)

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: object = None) -> bool:
        if self.cut_for:
            self._held.append(partial(self.publish, subject, payload, reply))
        elif self.alive:
            self._network.publish(subject, payload, reply)
        return True

    async def request(self, subject: str, payload: bytes, timeout: float = 2.0) -> bytes:
        if self.cut_for:
            await asyncio.sleep(timeout)
            raise TimeoutError
        return await self._network.request(subject, payload, timeout)

    async def probe(self, subject: str, timeout: float) -> bytes:
        return await self.request(subject, b"", timeout)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        if not self.alive:  # by a timer, which a process that has died would not have
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "a task failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def die(self) -> None:
        """End as kill -9 would."""
        self.alive = False
        for task in list(self._tasks):
            task.cancel()
        for subscription in self._subscriptions:
            self._network.unsubscribe(subscription)
