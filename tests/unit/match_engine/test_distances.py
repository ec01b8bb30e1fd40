"""What is told of a distance locates nobody better than within a square of a kilometre."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.distances import GRID, Told, snapped, told
from cloudmatch_match_engine.core.matcher import distance

METRE = 1 / 111_195  # degree of latitude
VICTIM = (52.3702, 4.8952)


def at(lat: float, lon: float) -> DeviceRecord:
    return DeviceRecord(app="x", device="a", edge="e", connection_id=1, lat=lat, lon=lon)


places = st.builds(at, st.floats(-90, 90), st.floats(-180, 180))


def moved(place: DeviceRecord, north: float, east: float) -> DeviceRecord:
    """A place that many metres away."""
    width = math.cos(math.radians(place.lat))
    return at(place.lat + north * METRE, place.lon + east * METRE / width)


def located(victim: DeviceRecord, far: float, how: Told) -> DeviceRecord:
    """Where three strangers at places of their choice believe a device to be: what fits what they hear."""
    strangers = [
        moved(victim, far, 0.3 * far),
        moved(victim, -far, 0.7 * far),
        moved(victim, 0.2 * far, -far),
    ]
    heard = [told(stranger, victim, how) for stranger in strangers]

    def misfit(place: DeviceRecord) -> float:
        pairs = zip(strangers, heard, strict=True)
        return sum((distance(stranger, place) - metres) ** 2 for stranger, metres in pairs)

    best, step = moved(victim, 0.4 * far, 0.4 * far), far  # the search begins elsewhere
    while step > 1e-3:
        around = [moved(best, step * i, step * j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        better = min(around, key=misfit)
        if better is best or misfit(better) >= misfit(best):
            step /= 2
        else:
            best = better
    return best


@pytest.mark.parametrize("far", [3000.0, 8000.0])
def test_three_strangers_at_places_of_their_choice_do_not_locate_a_device(far: float) -> None:
    victim = at(*VICTIM)
    assert distance(located(victim, far, "exact"), victim) < 1, "they would if it were exact"
    worst = max(
        distance(located(near, far, "rounded"), near)
        for near in (moved(victim, north, east) for north in (0, 450, 900) for east in (0, 450, 900))
    )
    assert worst > GRID / 2


@given(places, places, st.lists(places, min_size=1, max_size=5))
def test_all_places_within_a_square_look_the_same_from_wherever_strangers_are(
    one: DeviceRecord, other: DeviceRecord, strangers: list[DeviceRecord]
) -> None:
    middle = snapped(one)
    assert distance(one, middle) <= GRID
    assert snapped(middle) == middle
    for stranger in strangers:
        assert told(stranger, one, "rounded") == told(stranger, middle, "rounded")
    if snapped(other) == middle:
        assert [told(each, one, "rounded") for each in strangers] == [
            told(each, other, "rounded") for each in strangers
        ]


@given(places, places)
def test_what_is_told_is_the_same_for_both_and_about_right(a: DeviceRecord, b: DeviceRecord) -> None:
    metres = told(a, b, "rounded")
    assert metres == told(b, a, "rounded")
    assert metres >= GRID
    assert metres % GRID == 0
    assert metres == float(f"{metres:.1e}") or metres < 10 * GRID
    assert abs(metres - max(distance(a, b), GRID)) <= 1.5 * GRID + 0.051 * metres + GRID / 2
    assert told(a, b, "exact") == distance(a, b)
    assert told(a, b, "none") == 0


@pytest.mark.parametrize("lat", [-90, 90])
def test_at_a_pole_all_longitudes_are_one_place(lat: float) -> None:
    assert {told(at(lat, lon), at(lat, 0), "rounded") for lon in (-180, -90, 45, 180)} <= {GRID}


def test_the_date_line_is_no_distance() -> None:
    assert told(at(10, 180), at(10, -180), "rounded") == GRID
    assert told(at(10, 179.999), at(10, -179.999), "rounded") == GRID
