"""The pool finds what a full scan finds, anywhere on the globe, and examines few other devices."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_bus.contract.sphere import EARTH_RADIUS
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.pool import MirroredDevice, Pool

NOW = 10**6  # a revision after all others


def at(lat: float, lon: float, name: str = "me", radius: float | None = None) -> DeviceRecord:
    return DeviceRecord(app="demo", device=name, edge="e", connection_id=1, lat=lat, lon=lon, radius=radius)


def pool(records: list[DeviceRecord], planar: float = PLANAR_REACH) -> Pool:
    made = Pool(planar)
    for revision, record in enumerate(records, 1):
        made.add(device_id("demo", record.device), MirroredDevice(record, revision))
    return made


# Poles, the date line, and locations that are anywhere, or very near to each other.
anchors = st.sampled_from(
    [(0.0, 0.0), (90.0, 0.0), (-90.0, 77.0), (89.9999, -120.0), (0.0, 180.0), (52.0, -180.0), (-33.9, 151.2)]
)
apart = st.sampled_from([0.0, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 1.42, 10.0, 90.0])


@st.composite
def locations(draw: st.DrawFn) -> tuple[float, float]:
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
    members = draw(st.lists(st.tuples(locations(), radii), max_size=14))
    return [at(*location, f"d{i}", radius) for i, (location, radius) in enumerate(members)]


@settings(max_examples=1500)
@given(locations(), radii, crowds(), st.sampled_from([PLANAR_REACH, 0.01, 30.0, 400.0]))
@example((0.0, 0.0), None, [at(0, 1.4199999999, "d0")], PLANAR_REACH)
@example((0.0, 179.9999), 50.0, [at(0, -179.9999, "d0", 50.0)], PLANAR_REACH)
@example((90.0, 0.0), 1.0, [at(90, 123, "d0", 1.0)], PLANAR_REACH)
@example((0.0, 0.0), 2.1e7, [at(0, 180, "d0", 2.1e7)], PLANAR_REACH)
def test_a_search_finds_the_same_peer_as_a_full_scan(
    location: tuple[float, float], radius: float | None, crowd: list[DeviceRecord], planar: float
) -> None:
    seeker = at(*location, radius=radius)
    everyone = [MirroredDevice(record, revision) for revision, record in enumerate(crowd, 1)]
    near = list(pool(crowd, planar).near(seeker))
    assert len(near) == len(set(near)), "no device twice"
    suitable = {each for each in everyone if matcher.suits(seeker, each.record, planar)}
    assert suitable <= set(near)
    assert matcher.choose(seeker, near, NOW, planar) == matcher.choose(seeker, everyone, NOW, planar)


@settings(max_examples=400)
@given(locations(), st.floats(1e-3, 2e7), st.floats(0, 360), st.floats(0, 1))
def test_a_device_just_inside_the_reach_is_never_missed(
    location: tuple[float, float], radius: float, longitude: float, share: float
) -> None:
    seeker = at(*location, radius=radius)
    degrees = min(radius / EARTH_RADIUS * 57.29577951308232 * share, 180)
    lat = location[0] - degrees if location[0] > 0 else location[0] + degrees
    if abs(lat) > 90:
        return
    other = at(lat, location[1], "other", 2.1e7)
    if matcher.suits(seeker, other):
        assert [each.record for each in pool([other]).near(seeker)] == [other]
        assert [each.record for each in pool([seeker]).near(other)] == [seeker]


@given(crowds(), st.randoms())
def test_a_removed_device_is_not_found_and_leaves_nothing_behind(
    crowd: list[DeviceRecord], chance: Random
) -> None:
    made = pool(crowd)
    left = list(crowd)
    chance.shuffle(left)
    while left:
        made.remove(device_id("demo", left.pop().device))
        assert {each.record for each in made} == set(left)
        assert len(made) == len(left)
        seeker = at(0, 0, radius=2.1e7)
        assert {each.record for each in made.near(seeker)} <= set(left)
    assert not made._cells
    assert not made._classes


@pytest.mark.parametrize("radius", [None, 50.0, 1e5])
def test_a_search_in_a_city_examines_few_of_ten_thousand_devices_that_reach_less_far(
    radius: float | None,
) -> None:
    city = [at(52.3 + i / 1000, 4.8 + j / 1000, f"{i}-{j}", 50.0) for i in range(100) for j in range(100)]
    near = list(pool(city).near(at(52.35, 4.85, radius=radius)))
    assert 1 <= len(near) <= 4


def test_a_search_with_a_short_reach_examines_few_devices_that_reach_far() -> None:
    crowd = [at(i / 100, j / 100, f"{i}-{j}") for i in range(50) for j in range(50)]
    waiting = pool(crowd)
    assert len(list(waiting.near(at(0.25, 0.25, radius=100.0)))) == 1
    cells = [cell for cell in waiting._cells.values() if len(cell) > 20]
    assert cells, "though some cells are crowded"


def test_a_search_next_to_a_crowd_in_one_location_examines_none_of_it() -> None:
    crowd = [replace(at(1, 1, f"d{i}"), radius=5.0) for i in range(1000)]
    made = pool(crowd)
    assert len(list(made.near(at(1, 1, radius=5.0)))) == 1000
    assert not list(made.near(at(1.001, 1, radius=5.0)))
