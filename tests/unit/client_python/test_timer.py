"""The timer of the Python client."""

import asyncio

import uvloop

from cloudmatch.timer import Timer
from harness import eventually


def now() -> float:
    return asyncio.get_running_loop().time()


async def fires(deadline: float) -> None:
    """Wait until a timer with this deadline has fired."""
    fired: list[bool] = []
    Timer(lambda: fired.append(True)).set(deadline)
    await eventually(lambda: fired)


async def test_a_timer_fires_once_at_its_deadline() -> None:
    fired: list[float] = []
    deadline = now() + 0.02
    Timer(lambda: fired.append(now())).set(deadline)
    await fires(deadline + 0.02)
    assert len(fired) == 1
    assert fired[0] > deadline - 0.01


async def test_an_earlier_deadline_replaces_a_later_one_but_not_the_other_way_round() -> None:
    fired: list[float] = []
    timer = Timer(lambda: fired.append(now()))
    timer.set(now() + 60)
    timer.set(now() + 0.01)
    timer.set(now() + 60)
    await eventually(lambda: fired)


async def test_a_timer_without_a_deadline_does_not_fire() -> None:
    fired: list[float] = []
    timer = Timer(lambda: fired.append(now()))
    for stop in (lambda: timer.set(None), timer.cancel):
        timer.set(now() + 0.01)
        stop()
        stop()
    await fires(now() + 0.03)
    assert fired == []


def test_a_timer_on_uvloop_fires_at_a_deadline_that_has_passed() -> None:
    async def fire() -> None:
        fired: list[float] = []
        timer = Timer(lambda: fired.append(now()))
        timer.set(now() - 1)
        timer.set(now() + 60)
        await eventually(lambda: fired)

    uvloop.run(fire())
