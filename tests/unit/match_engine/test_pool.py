"""The pool finds whom a look at everyone finds, anywhere on the globe, and looks at few others for it."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.matcher import EARTH_RADIUS, PLANAR_REACH
from cloudmatch_match_engine.core.pool import Known, Pool

NOW = 10**6  # a revision after all others


def at(lat: float, lon: float, name: str = "me", radius: float | None = None) -> DeviceRecord:
    return DeviceRecord(app="demo", device=name, edge="e", connection_id=1, lat=lat, lon=lon, radius=radius)


def pool(records: list[DeviceRecord], planar: float = PLANAR_REACH) -> Pool:
    made = Pool(planar)
    for revision, record in enumerate(records, 1):
        made.add(device_id("demo", record.device), Known(record, revision))
    return made


# Poles, the date line, and places that are anywhere, or very near to each other.
anchors = st.sampled_from(
    [(0.0, 0.0), (90.0, 0.0), (-90.0, 77.0), (89.9999, -120.0), (0.0, 180.0), (52.0, -180.0), (-33.9, 151.2)]
)
apart = st.sampled_from([0.0, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 1.42, 10.0, 90.0])


@st.composite
def places(draw: st.DrawFn) -> tuple[float, float]:
    if draw(st.booleans()):
        return draw(st.floats(-90, 90)), draw(st.floats(-180, 180))
    lat, lon = draw(anchors)
    lat += draw(apart) * draw(st.floats(-1, 1))
    lon += draw(apart) * draw(st.floats(-1, 1))
    if abs(lat) > 90:  # over the pole
        lat, lon = (180 - abs(lat)) * (1 if lat > 0 else -1), lon + 180
    return lat, (lon + 180) % 360 - 180


radii = (
    st.none()
    | st.sampled_from([1e-3, 0.5, 1.0, 10.0, 1e3, 157_900.0, 1e6, 2.1e7, 1e12])
    | st.floats(1e-3, 3e7)
)


@st.composite
def crowds(draw: st.DrawFn) -> list[DeviceRecord]:
    members = draw(st.lists(st.tuples(places(), radii), max_size=14))
    return [at(*place, f"d{i}", radius) for i, (place, radius) in enumerate(members)]


@settings(max_examples=1500)
@given(places(), radii, crowds(), st.sampled_from([PLANAR_REACH, 0.01, 30.0, 400.0]))
@example((0.0, 0.0), None, [at(0, 1.4199999999, "d0")], PLANAR_REACH)
@example((0.0, 179.9999), 50.0, [at(0, -179.9999, "d0", 50.0)], PLANAR_REACH)
@example((90.0, 0.0), 1.0, [at(90, 123, "d0", 1.0)], PLANAR_REACH)
@example((0.0, 0.0), 2.1e7, [at(0, 180, "d0", 2.1e7)], PLANAR_REACH)
def test_it_finds_exactly_whom_a_look_at_everyone_finds(
    place: tuple[float, float], radius: float | None, crowd: list[DeviceRecord], planar: float
) -> None:
    seeker = at(*place, radius=radius)
    everyone = [Known(record, revision) for revision, record in enumerate(crowd, 1)]
    near = list(pool(crowd, planar).near(seeker))
    assert len(near) == len(set(near)), "nobody twice"
    suitable = {known for known in everyone if matcher.suits(seeker, known.record, planar)}
    assert suitable <= set(near)
    assert matcher.choose(seeker, near, NOW, planar) == matcher.choose(seeker, everyone, NOW, planar)


@settings(max_examples=400)
@given(places(), st.floats(1e-3, 2e7), st.floats(0, 360), st.floats(0, 1))
def test_nobody_on_the_rim_is_missed(
    place: tuple[float, float], radius: float, longitude: float, share: float
) -> None:
    """Whoever stands just inside of a reach, wherever cells end."""
    seeker = at(*place, radius=radius)
    degrees = min(radius / EARTH_RADIUS * 57.29577951308232 * share, 180)
    lat = place[0] - degrees if place[0] > 0 else place[0] + degrees
    if abs(lat) > 90:
        return
    other = at(lat, place[1], "other", 2.1e7)
    if matcher.suits(seeker, other):
        assert [known.record for known in pool([other]).near(seeker)] == [other]
        assert [known.record for known in pool([seeker]).near(other)] == [seeker]


@given(crowds(), st.randoms())
def test_whoever_is_removed_is_found_no_more_and_leaves_nothing_behind(
    crowd: list[DeviceRecord], chance: Random
) -> None:
    made = pool(crowd)
    left = list(crowd)
    chance.shuffle(left)
    while left:
        made.remove(device_id("demo", left.pop().device))
        assert {known.record for known in made} == set(left)
        assert len(made) == len(left)
        seeker = at(0, 0, radius=2.1e7)
        assert {known.record for known in made.near(seeker)} <= set(left)
    assert not made._cells
    assert not made._classes


@pytest.mark.parametrize("radius", [None, 50.0, 1e5])
def test_a_seeker_in_a_city_looks_at_few_of_ten_thousand_who_reach_less_far(radius: float | None) -> None:
    city = [at(52.3 + i / 1000, 4.8 + j / 1000, f"{i}-{j}", 50.0) for i in range(100) for j in range(100)]
    near = list(pool(city).near(at(52.35, 4.85, radius=radius)))
    assert 1 <= len(near) <= 4


def test_a_seeker_who_reaches_little_looks_at_few_of_those_who_reach_far() -> None:
    crowd = [at(i / 100, j / 100, f"{i}-{j}") for i in range(50) for j in range(50)]
    waiting = pool(crowd)
    assert len(list(waiting.near(at(0.25, 0.25, radius=100.0)))) == 1
    cells = [cell for cell in waiting._cells.values() if len(cell) > 20]
    assert cells, "though some cells are crowded"


def test_a_place_that_many_share_is_left_as_it_was_found() -> None:
    crowd = [replace(at(1, 1, f"d{i}"), radius=5.0) for i in range(1000)]
    made = pool(crowd)
    assert len(list(made.near(at(1, 1, radius=5.0)))) == 1000
    assert not list(made.near(at(1.001, 1, radius=5.0)))
