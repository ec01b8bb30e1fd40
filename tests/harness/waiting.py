"""Wait for a condition with a deadline, never for a time.

The longer a wait has lasted, the less often it checks: a condition is often a request to a service, and a
hundred of them a second would load the machine more than the test itself.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
INTERVAL, LONGEST = 0.01, 0.2  # s between two checks: at first, and at most
SHARE = 0.1  # of the time waited so far, between these two


async def eventually(
    condition: Callable[[], T | Awaitable[T]], deadline: float = 10, what: str = "the condition"
) -> T:
    """Return the first true value of `condition`, a plain or async function.

    Raises:
        AssertionError: it was not true within `deadline` seconds; names `what` and the last value.
    """
    begin = time.monotonic()
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(_pause(begin, deadline, value, what))


def eventually_sync(condition: Callable[[], T], deadline: float = 10, what: str = "the condition") -> T:
    """`eventually` without an event loop."""
    begin = time.monotonic()
    while not (value := condition()):
        time.sleep(_pause(begin, deadline, value, what))
    return value


def _pause(begin: float, deadline: float, value: object, what: str) -> float:
    """Seconds until the next check; raises AssertionError after the deadline."""
    waited = time.monotonic() - begin
    if waited > deadline:
        raise AssertionError(f"{what} did not hold within {deadline} s; last value: {value!r}")
    return min(max(INTERVAL, SHARE * waited), LONGEST, max(INTERVAL, deadline - waited))
