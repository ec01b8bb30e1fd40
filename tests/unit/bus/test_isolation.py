"""One fact that cannot be handled is set aside; all others are handled."""

import pytest

from cloudmatch_bus.client.isolation import DownstreamError, Unhandled, handle_apart

BAD = {3, 17, 18, 99}


def unhandled(number: int, reason: str) -> Unhandled:
    return Unhandled(number, "s", b"", reason)


async def test_only_those_that_cannot_be_handled_are_set_aside_and_the_others_stay_in_order() -> None:
    handled: list[int] = []
    aside: list[Unhandled] = []

    async def handle(numbers: list[int]) -> None:
        if bad := BAD & set(numbers):
            raise ValueError(f"cannot handle {min(bad)}")
        handled.extend(numbers)

    async def set_aside(fact: Unhandled) -> None:
        aside.append(fact)

    await handle_apart(range(100), handle, unhandled, set_aside)
    assert handled == [number for number in range(100) if number not in BAD]
    assert aside == [unhandled(number, f"ValueError: cannot handle {number}") for number in sorted(BAD)]
    with pytest.raises(ValueError, match="cannot handle 3"):
        await handle_apart(range(100), handle, unhandled, None)


async def test_a_destination_that_is_away_sets_nothing_aside() -> None:
    async def away(_: object) -> None:
        raise DownstreamError("away")

    async def bad(_: object) -> None:
        raise ValueError("bad")

    for handle, set_aside in ((away, bad), (bad, away)):
        with pytest.raises(DownstreamError, match="away"):
            await handle_apart([1, 2], handle, unhandled, set_aside)


async def test_what_cannot_even_be_set_aside_is_said_and_left(caplog: pytest.LogCaptureFixture) -> None:
    async def bad(_: object) -> None:
        raise ValueError("bad")

    await handle_apart([7], bad, unhandled, bad)
    assert "fact at position 7 cannot even be set aside" in caplog.text
    assert "fact at position 7 on s set aside: ValueError: bad" in caplog.text
