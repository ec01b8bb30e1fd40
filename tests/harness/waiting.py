"""Wait for a condition with a deadline, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
INTERVAL = 0.01  # s between two looks


async def eventually(
    condition: Callable[[], T | Awaitable[T]], deadline: float = 10, what: str = "the condition"
) -> T:
    """Give the first true value of `condition`, a plain or async function.

    Raises:
        AssertionError: it was not true within `deadline` seconds; names `what` and the last value.
    """
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not hold within {deadline} s; last value: {value!r}")
        await asyncio.sleep(INTERVAL)


def eventually_sync(condition: Callable[[], T], deadline: float = 10, what: str = "the condition") -> T:
    """Do what `eventually` does, without an event loop."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not hold within {deadline} s; last value: {value!r}")
        time.sleep(INTERVAL)
    return value
