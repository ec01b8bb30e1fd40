"""Coroutines whose awaits a scheduler controls."""

import types
from collections.abc import Callable, Generator
from typing import Any

from cloudmatch_bus.client.bucket import ConflictError


class Call:
    """What a task awaits: `perform` has the effect; the task gets the outcome later."""

    def __init__(self, perform: Callable[[], object]) -> None:
        self._perform = perform
        self.performed = False
        self.outcome: object = None

    def perform(self) -> None:
        self.performed = True
        try:
            self.outcome = self._perform()
        except ConflictError as conflict:
            self.outcome = conflict


@types.coroutine
def suspended(call: Call) -> Generator[Call, object, Any]:
    return (yield call)


class Future:
    """As much of asyncio's as pairing uses."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, _: None) -> None:
        self._done = True


class MirrorWait(Call):
    """A wait for the mirror: over once the future is done; it may time out before."""

    def __init__(self, future: Future) -> None:
        super().__init__(lambda: None)
        self.future = future
        self.performed = True  # no server is involved


class Asyncio:
    """Replaces asyncio in the modules of pairing."""

    @staticmethod
    async def sleep(_: float) -> None:
        await suspended(Call(lambda: None))

    @staticmethod
    async def wait_for(future: Future, _: float) -> None:
        if not future.done():
            await suspended(MirrorWait(future))

    @staticmethod
    def get_running_loop() -> types.SimpleNamespace:
        return types.SimpleNamespace(create_future=Future)
