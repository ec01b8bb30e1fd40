"""Which devices suit each other, and which comes first."""

from math import pi
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_bus.contract.sphere import EARTH_RADIUS
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.matcher import PLANAR_REACH, choose, distance, suits

DEGREE = EARTH_RADIUS * pi / 180  # metres of a degree of a great circle
latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)
radii = st.none() | st.floats(1, 2e7)
tags = st.sampled_from([None, "red", "blue"])


def reaches(a: DeviceRecord, b: DeviceRecord, planar: float = PLANAR_REACH) -> bool:
    return matcher.reaches(a, b, distance(a, b), planar)


def at(lat: float, lon: float, name: str = "a", **more: object) -> DeviceRecord:
    record = DeviceRecord(app="demo", device=name, edge="e", connection_id=1, lat=lat, lon=lon)
    return replace(record, **more)


somewhere = st.builds(at, latitudes, longitudes)
anyone = st.builds(
    lambda lat, lon, name, radius, tag, app: at(lat, lon, name, radius=radius, tag=tag, app=app),
    st.floats(-2, 2) | latitudes,
    st.floats(-2, 2) | longitudes,
    st.sampled_from("abcdef"),
    radii,
    tags,
    st.sampled_from(["demo", "other"]),
)

# Few locations and radii, so that many suit and many are equally far.
neighbours = st.builds(
    lambda lat, name, radius, tag: at(lat, 0, name, radius=radius, tag=tag),
    st.sampled_from([0, 0.5, 1, 1.5]),
    st.sampled_from("abcdef"),
    st.sampled_from([None, 60_000.0, 2e5]),
    st.sampled_from([None, None, "red"]),
)


@given(somewhere, somewhere)
def test_distance_is_the_same_both_ways_and_at_most_half_around_the_earth(
    a: DeviceRecord, b: DeviceRecord
) -> None:
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9, abs=1e-6)
    assert 0 <= distance(a, b) <= pi * EARTH_RADIUS * (1 + 1e-12)
    assert distance(a, a) == 0


@given(longitudes, longitudes)
def test_at_a_pole_all_longitudes_are_one_location(one: float, other: float) -> None:
    assert distance(at(90, one), at(90, other)) < 1e-3
    assert distance(at(-90, one), at(-89, other)) == pytest.approx(DEGREE)


@pytest.mark.parametrize(
    ("a", "b", "metres"),
    [
        (at(0, 0), at(1, 0), DEGREE),
        (at(0, 179.5), at(0, -179.5), DEGREE),
        (at(89.5, 0), at(89.5, 180), DEGREE),
        (at(0, 0), at(0, 180), 180 * DEGREE),
        (at(52.3702, 4.8952), at(52.52, 13.405), 577_000),  # Amsterdam to Berlin
    ],
)
def test_distances_are_those_of_the_globe(a: DeviceRecord, b: DeviceRecord, metres: float) -> None:
    assert distance(a, b) == pytest.approx(metres, rel=2e-3)


def test_by_the_rule_of_2019_degrees_are_flat_and_the_limit_itself_is_out_of_reach() -> None:
    assert not reaches(at(0, 0), at(PLANAR_REACH, 0))
    assert reaches(at(0, 0), at(1.41999999, 0))
    assert reaches(at(0, 0), at(1, 1))
    assert not reaches(at(80, 0), at(80, 2)), "39 km, but two degrees"
    assert not reaches(at(0, 179.5), at(0, -179.5)), "the date line is an edge of the flat world"
    assert reaches(at(0, 0), at(0, 2.9), planar=3)


def test_a_radius_reaches_across_the_date_line_and_the_pole() -> None:
    for a, b in ((at(0, 179.5), at(0, -179.5)), (at(89.5, 10), at(89.5, -170))):
        assert reaches(replace(a, radius=DEGREE * 1.001), b)
        assert not reaches(replace(a, radius=DEGREE * 0.999), b)


@given(anyone, anyone)
def test_suiting_is_mutual(a: DeviceRecord, b: DeviceRecord) -> None:
    assert suits(a, b) == suits(b, a)
    if suits(a, b):
        assert (a.app, a.tag) == (b.app, b.tag)
        assert a.device != b.device


def test_the_smaller_of_two_radii_counts() -> None:
    near, far = at(0, 0, "near", radius=1000.0), at(0, 0.5, "far", radius=1e6)
    assert reaches(far, near)
    assert not suits(near, far)
    assert suits(replace(near, radius=56_000.0), far)


def test_between_a_device_with_a_radius_and_one_without_both_rules_must_hold() -> None:
    plain = at(0, 0, "plain")
    assert suits(plain, at(0, 1, "b", radius=2 * DEGREE))
    assert not suits(plain, at(0, 1, "b", radius=0.5 * DEGREE))
    assert not suits(plain, at(0, 1.5, "b", radius=2 * DEGREE))


@pytest.mark.parametrize("other", [at(0, 0, "b", tag="red"), at(0, 0, "b", app="other"), at(0, 0, "a")])
def test_other_tags_other_apps_and_oneself_do_not_suit(other: DeviceRecord) -> None:
    assert suits(at(0, 0, "a"), at(0, 0, "b"))
    assert not suits(at(0, 0, "a"), other)


@given(neighbours, st.lists(neighbours, max_size=12), st.integers(0, 13), st.randoms())
def test_the_nearest_then_the_longest_waiting_is_chosen_among_older_ones_that_suit(
    seeker: DeviceRecord, others: list[DeviceRecord], before: int, chance: Random
) -> None:
    group = (seeker.app, seeker.tag)
    pool = [(other, revision) for revision, other in enumerate(others, 1) if (other.app, other.tag) == group]
    chance.shuffle(pool)
    chosen = choose(seeker, pool, before)
    suitable = [(o, r) for o, r in pool if suits(seeker, o) and r < before]
    if not suitable:
        assert chosen is None
        return
    assert chosen in suitable
    record, revision = chosen
    for other, waits_since in suitable:
        assert distance(seeker, record) <= distance(seeker, other)
        if distance(seeker, record) == distance(seeker, other):
            assert revision <= waits_since


def test_devices_that_left_their_match_do_not_suit_whichever_record_says_so() -> None:
    a, b = at(0, 0, "a"), at(0, 0, "b")
    assert not suits(replace(a, last_peer="b"), b)
    assert not suits(a, replace(b, last_peer="a"))
    assert suits(replace(a, last_peer="c"), b)
    assert choose(a, [(replace(b, last_peer="a"), 1)], before=9) is None
    assert choose(replace(a, last_peer="b"), [(b, 1)], before=9) is None


def test_of_two_that_arrive_together_only_the_younger_finds_the_other() -> None:
    older, younger = at(0, 0, "older"), at(0, 0, "younger")
    pool = [(older, 7), (younger, 8)]
    assert choose(older, pool, before=7) is None
    assert choose(younger, pool, before=8) == (older, 7)


def test_between_equals_the_id_decides() -> None:
    pool = [(at(0, 1, "c"), 5), (at(0, 1, "b"), 5)]
    assert choose(at(0, 0), pool, before=9) == (pool[1][0], 5)
