"""For how long a device may stay."""

import math

import pytest

from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.permit import Permit
from cloudmatch_edge.admission.stay import AHEAD, FOREVER, Stay
from cloudmatch_edge.dialects.parameters import Parameters

WHO = Parameters("a", 0, 0, "demo")
CLOCK = 1_796_000_000.0  # s since 1970


def expiring(seconds: float, **more: object) -> Permit:
    return Permit(app="demo", device="a", expires=CLOCK + seconds, **more)


def stay(permit: Permit, other: Permit | None = None, leeway: float = 30) -> Stay:
    """A stay since 1000.0 s, monotonic; `other`: what another token permits."""
    return Stay(permit, lambda _: other or permit, leeway, now=1000.0, clock=CLOCK)


def test_an_edge_that_asks_for_no_token_lets_everybody_stay_and_takes_none() -> None:
    assert not FOREVER.is_over(1e18)
    assert FOREVER.ask(1e18) is None
    with pytest.raises(DeniedError) as denied:
        FOREVER.renew("a.b.c", WHO, 0.0, CLOCK)
    assert (denied.value.status, denied.value.detail) == (401, "no tokens are taken here")


@pytest.mark.parametrize("leeway", [0, 30])
def test_a_stay_ends_with_its_token_and_the_leeway_whatever_the_wall_clock_shows(leeway: float) -> None:
    short = stay(expiring(100), leeway=leeway)
    assert not short.is_over(math.nextafter(1100.0 + leeway, 0))
    assert short.is_over(1100.0 + leeway)


def test_a_device_is_asked_once_for_another_token() -> None:
    short = stay(expiring(100))
    assert short.ask(math.nextafter(1100.0 - AHEAD, 0)) is None
    assert short.ask(1100.0 - AHEAD) == AHEAD
    assert short.ask(1099.0) is None


@pytest.mark.parametrize(("lives", "asked"), [(10.2, 11), (-20.0, 0)])
def test_a_device_is_asked_at_once_when_its_token_expires_soon_or_lives_by_the_leeway(
    lives: float, asked: int
) -> None:
    assert stay(expiring(lives)).ask(1000.0) == asked


def test_another_token_counts_from_now_on_and_is_asked_for_again() -> None:
    other = expiring(500, radius=20.0)
    renewed = stay(expiring(100), other)
    assert renewed.ask(1050.0) == 50
    assert renewed.renew("a.b.c", WHO, 1060.0, CLOCK + 60).radius == 20
    assert renewed.permit is other
    assert not renewed.is_over(1529.0)
    assert renewed.ask(1450.0) == 50
    assert renewed.is_over(1530.0)


@pytest.mark.parametrize(
    ("other", "parameter"),
    [
        (Permit(app="demo", device="b", expires=CLOCK + 500), "id"),
        (Permit(app="other", device="a", expires=CLOCK + 500), "app"),
        (expiring(500, tags=("red",)), "tag"),
    ],
)
def test_a_token_that_is_not_for_this_device_changes_nothing(other: Permit, parameter: str) -> None:
    first = expiring(100)
    present = stay(first, other)
    with pytest.raises(DeniedError) as denied:
        present.renew("a.b.c", WHO, 1050.0, CLOCK + 50)
    assert (denied.value.status, denied.value.parameter) == (403, parameter)
    assert present.permit is first
    assert present.is_over(1130.0)
