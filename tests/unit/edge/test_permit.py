"""What a device may do."""

import pytest

from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.permit import OPEN, Admitted, Permit, Place
from cloudmatch_edge.dialects.parameters import Parameters

WHO = Parameters("a", 52.0, 13.0, "demo", 100.0, "red")


def test_an_edge_that_asks_for_no_token_permits_anything() -> None:
    assert Admitted(WHO).permit == OPEN == Permit()
    assert OPEN.narrow(WHO) == WHO


@pytest.mark.parametrize(
    ("permit", "parameter"),
    [
        (Permit(device="b"), "id"),
        (Permit(device="а"), "id"),  # Cyrillic
        (Permit(device="a\0"), "id"),
        (Permit(app="other"), "app"),
        (Permit(tags=("blue", "Red")), "tag"),
        (Permit(tags=()), "tag"),
        (Permit(radius=99.9), "radius"),
        (Permit(place=Place(53.0, 13.0, 111_000)), "place"),
    ],
)
def test_who_asks_for_more_than_permitted_hears_which_parameter_that_is(
    permit: Permit, parameter: str
) -> None:
    with pytest.raises(DeniedError) as denied:
        permit.narrow(WHO)
    assert (denied.value.status, denied.value.code, denied.value.parameter) == (403, "forbidden", parameter)


def test_who_asks_for_exactly_what_is_permitted_gets_it() -> None:
    permit = Permit(
        app="demo", device="a", tags=("blue", "red"), radius=100.0, place=Place(53.0, 13.0, 112_000)
    )
    assert permit.narrow(WHO) == WHO


def test_without_a_radius_the_device_gets_the_permitted_one() -> None:
    assert Permit(radius=5.0).narrow(WHO._replace(radius=None)).radius == 5.0


def test_without_a_tag_a_device_is_not_of_a_permitted_tag() -> None:
    with pytest.raises(DeniedError):
        Permit(tags=("red",)).narrow(WHO._replace(tag=None))


def test_an_id_may_be_composed_otherwise_than_in_the_token_and_is_one_device_all_the_same() -> None:
    assert Permit(device="é").narrow(WHO._replace(id="e\u0301")).id == "é"
