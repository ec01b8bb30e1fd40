"""A crowd is handled a few at a time, in order, and lets others have their turns in between."""

import asyncio

from cloudmatch_edge.sockets.turns import PER_TURN, Turns


async def test_a_crowd_is_handled_in_order_a_few_in_each_turn() -> None:
    turns, done = Turns(), list[int]()
    turns(lambda: done.append(0))
    assert done == [0]
    for number in range(1, 1000):
        turns(lambda number=number: done.append(number))  # type: ignore[misc]
    assert len(done) == PER_TURN
    before = len(done)
    while len(done) < 1000:
        await asyncio.sleep(0)
        assert len(done) <= before + PER_TURN
        before = len(done)
    assert done == list(range(1000))
    await asyncio.sleep(0)
    turns(lambda: done.append(1000))
    assert done[-1] == 1000


async def test_work_that_goes_on_gets_one_turn_after_the_other_among_arrivals() -> None:
    turns, done = Turns(), list[str]()

    def go_on(name: str, times: int) -> None:
        done.append(name)
        if times > 1:
            turns.later(lambda: go_on(name, times - 1))

    turns.later(lambda: go_on("a", 3))
    turns.later(lambda: go_on("b", 2))
    assert done == [], "not in this turn"
    await asyncio.sleep(0)
    assert done == ["a", "b"]
    turns(lambda: done.append("arrival"))
    await asyncio.sleep(0)
    assert done == ["a", "b", "a", "b", "arrival"]
    await asyncio.sleep(0)
    assert done[5:] == ["a"]
    await asyncio.sleep(0)
    turns(lambda: done.append("at once"))
    assert done[6:] == ["at once"]


async def test_what_comes_later_never_overtakes_what_waits() -> None:
    turns, done = Turns(), list[str]()
    for _ in range(PER_TURN):
        turns(lambda: None)
    turns(lambda: turns(lambda: done.append("later")))
    turns(lambda: done.append("earlier"))
    assert done == []
    for _ in range(4):
        await asyncio.sleep(0)
    assert done == ["earlier", "later"]
