"""What a device may do."""

import pytest

from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.grant import OPEN, Admitted, Grant, Place
from cloudmatch_edge.dialects.parameters import Parameters

WHO = Parameters("a", 52.0, 13.0, "demo", 100.0, "red")


def test_an_edge_that_asks_for_no_token_grants_anything() -> None:
    assert Admitted(WHO).grant == OPEN == Grant()
    assert OPEN.narrow(WHO) == WHO


@pytest.mark.parametrize(
    ("grant", "parameter"),
    [
        (Grant(device="b"), "id"),
        (Grant(device="а"), "id"),  # Cyrillic
        (Grant(device="a\0"), "id"),
        (Grant(app="other"), "app"),
        (Grant(tags=("blue", "Red")), "tag"),
        (Grant(tags=()), "tag"),
        (Grant(radius=99.9), "radius"),
        (Grant(place=Place(53.0, 13.0, 111_000)), "place"),
    ],
)
def test_who_asks_for_more_than_granted_hears_which_parameter_that_is(grant: Grant, parameter: str) -> None:
    with pytest.raises(DeniedError) as denied:
        grant.narrow(WHO)
    assert (denied.value.status, denied.value.code, denied.value.parameter) == (403, "forbidden", parameter)


def test_who_asks_for_exactly_what_is_granted_gets_it() -> None:
    grant = Grant(
        app="demo", device="a", tags=("blue", "red"), radius=100.0, place=Place(53.0, 13.0, 112_000)
    )
    assert grant.narrow(WHO) == WHO


def test_without_a_radius_the_device_gets_the_granted_one() -> None:
    assert Grant(radius=5.0).narrow(WHO._replace(radius=None)).radius == 5.0


def test_without_a_tag_a_device_is_not_of_a_granted_tag() -> None:
    with pytest.raises(DeniedError):
        Grant(tags=("red",)).narrow(WHO._replace(tag=None))


def test_an_id_may_be_composed_otherwise_than_in_the_token_and_is_one_device_all_the_same() -> None:
    assert Grant(device="é").narrow(WHO._replace(id="e\u0301")).id == "é"
