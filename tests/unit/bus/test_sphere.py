"""Distances on the earth."""

from math import pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.sphere import EARTH_RADIUS, distance

DEGREES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def test_a_degree_of_a_great_circle_is_111_km_across_the_date_line_too() -> None:
    found = [distance(0, 179.5, 0, -179.5), distance(10, 20, 11, 20)]
    assert found == pytest.approx([EARTH_RADIUS * pi / 180] * 2)


@given(DEGREES, DEGREES)
def test_distances_are_symmetric_and_no_longer_than_half_the_earth(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    assert distance(*a, *b) == pytest.approx(distance(*b, *a))
    assert 0 <= distance(*a, *b) <= pi * EARTH_RADIUS * (1 + 1e-12)
