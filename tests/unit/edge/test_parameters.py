"""The query of a connection, parsed and checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_edge.dialects.parameters import BadParameterError, Parameters, parse


def test_integers_of_2019_clients_are_accepted_and_the_app_is_default() -> None:
    assert parse("id=a&lat=1&lon=3") == Parameters("a", 1.0, 3.0, "default", None, None)


def test_who_has_a_token_need_not_say_its_id_and_app_again() -> None:
    assert parse("lat=1&lon=3", "a", "demo") == Parameters("a", 1.0, 3.0, "demo")
    assert parse("id=b&app=x&lat=1&lon=3", "a", "demo") == Parameters("b", 1.0, 3.0, "x")


def test_all_parameters_are_parsed() -> None:
    query = "id=a%20b&lat=-52.37&lon=180&app=d%C3%A9mo&radius=2.5e2&tag=red"
    assert parse(query) == Parameters("a b", -52.37, 180.0, "démo", 250.0, "red")


def test_a_connection_may_resume_a_session() -> None:
    who = parse("id=a&lat=0&lon=0&resume=abc.DEF_1-2&received=12&match=7")
    assert (who.resume, who.received, who.match) == ("abc.DEF_1-2", 12, 7)


def test_an_empty_tag_is_a_tag() -> None:
    assert parse("id=a&lat=0&lon=0&tag=").tag == ""


def test_unknown_parameters_are_ignored() -> None:
    assert parse("id=a&lat=0&lon=0&future=1").id == "a"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("", "id"),
        ("lat=1&lon=1", "id"),
        ("id=&lat=1&lon=1", "id"),
        ("id=" + "x" * 65 + "&lat=1&lon=1", "id"),
        ("id=a&id=b&lat=1&lon=1", "id"),
        ("id=a&lon=1", "lat"),
        ("id=a&lat=&lon=1", "lat"),
        ("id=a&lat=north&lon=1", "lat"),
        ("id=a&lat=90.0001&lon=1", "lat"),
        ("id=a&lat=-91&lon=1", "lat"),
        ("id=a&lat=nan&lon=1", "lat"),
        ("id=a&lat=inf&lon=1", "lat"),
        ("id=a&lat=1_0&lon=1", "lat"),
        ("id=a&lat=%D9%A1&lon=1", "lat"),
        ("id=a&lat=%201&lon=1", "lat"),
        ("id=a&lat=1%0A&lon=1", "lat"),
        ("id=a&lat=0x1&lon=1", "lat"),
        ("id=a&lat=1e999&lon=1", "lat"),
        ("id=a&lat=.&lon=1", "lat"),
        ("id=a&lat=1&lon=1&radius=1_000", "radius"),
        ("id=a&lat=1", "lon"),
        ("id=a&lat=1&lon=180.1", "lon"),
        ("id=a&lat=1&lon=1&radius=0", "radius"),
        ("id=a&lat=1&lon=1&radius=-5", "radius"),
        ("id=a&lat=1&lon=1&radius=far", "radius"),
        ("id=a&lat=1&lon=1&radius=inf", "radius"),
        ("id=a&lat=1&lon=1&app=", "app"),
        ("id=a&lat=1&lon=1&app=" + "x" * 65, "app"),
        ("id=a&lat=1&lon=1&tag=" + "x" * 65, "tag"),
        ("id=a&lat=1&lon=1&resume=", "resume"),
        ("id=a&lat=1&lon=1&resume=a%20b", "resume"),
        ("id=a&lat=1&lon=1&resume=" + "x" * 65, "resume"),
        ("id=a&lat=1&lon=1&received=-1", "received"),
        ("id=a&lat=1&lon=1&received=1.0", "received"),
        ("id=a&lat=1&lon=1&received=%D9%A1", "received"),
        ("id=a&lat=1&lon=1&match=" + "1" * 19, "match"),
        ("id=%FF&lat=1&lon=1", "query"),
        ("id=a&lat=1&lon=1&tag=é", "tag"),
        ("ïd=a&lat=1&lon=1", "query"),
        ("&".join(f"p{i}=1" for i in range(60)), "query"),
    ],
)
def test_the_first_bad_parameter_is_named(query: str, parameter: str) -> None:
    with pytest.raises(BadParameterError) as bad:
        parse(query)
    assert bad.value.parameter == parameter
    assert bad.value.detail


@pytest.mark.parametrize(
    ("written", "lat"),
    [("1", 1), ("-1.5", -1.5), (".5", 0.5), ("5.", 5), ("%2B5", 5), ("1e1", 10), ("1E-2", 0.01)],
)
def test_a_number_has_digits_a_sign_a_fraction_and_an_exponent(written: str, lat: float) -> None:
    assert parse(f"id=a&lat={written}&lon=1").lat == lat


@given(st.text(max_size=200))
def test_any_query_is_parsed_or_rejected(query: str) -> None:
    try:
        who = parse(query)
    except BadParameterError:
        return
    assert 1 <= len(who.id) <= 64
