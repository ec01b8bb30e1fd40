"""Conditions that tests wait for."""

import time

import pytest

from harness import eventually, eventually_sync


async def test_eventually_gives_the_first_true_value_of_plain_and_async_conditions():
    values = iter([0, None, "there", "later"])

    async def later() -> str | int | None:
        return next(values)

    assert await eventually(later, 1) == "there"
    assert await eventually(lambda: next(values), 1) == "later"


async def test_eventually_fails_at_its_deadline_and_says_what_it_waited_for():
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"the moon did not hold within 0\.05 s; last value: \[\]"):
        await eventually(list, 0.05, "the moon")
    with pytest.raises(AssertionError, match="last value: 0"):
        eventually_sync(lambda: 0, 0.05)
    assert time.monotonic() - began < 1


def test_the_longer_a_wait_has_lasted_the_less_often_it_checks():
    looks = []

    def looked() -> bool:
        looks.append(time.monotonic())
        return looks[-1] - looks[0] > 1

    eventually_sync(looked, 10)
    assert len(looks) < 60  # not a hundred
