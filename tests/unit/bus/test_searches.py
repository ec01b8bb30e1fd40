"""Searches in threads: a few at a time, some wait, the others are refused."""

import asyncio
import threading

import pytest
from litestar.exceptions import ServiceUnavailableException

from cloudmatch_bus.process.searches import Searches
from harness import eventually


async def test_two_search_at_once_some_wait_and_one_more_is_refused() -> None:
    searches, gate = Searches(2, 3), threading.Event()
    began: list[int] = []

    def search(number: int) -> int:
        began.append(number)
        assert gate.wait(20)
        return number

    asked = [asyncio.create_task(searches.run(lambda n=n: search(n))) for n in range(5)]  # type: ignore[misc]  # a default binds n
    await eventually(lambda: len(began) == 2)
    with pytest.raises(ServiceUnavailableException) as refused:
        await searches.run(lambda: search(5))
    assert refused.value.headers == {"Retry-After": "1"}
    assert began == [0, 1]
    gate.set()
    assert await asyncio.gather(*asked) == [0, 1, 2, 3, 4]
    assert await searches.run(lambda: search(6)) == 6


async def test_a_search_that_fails_or_is_given_up_leaves_its_place_to_others() -> None:
    searches = Searches(1, 0)
    with pytest.raises(ZeroDivisionError):
        await searches.run(lambda: 1 // 0)
    gate = threading.Event()
    given_up = asyncio.create_task(searches.run(gate.wait))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    gate.set()
    assert await searches.run(lambda: 7) == 7
