"""Which token a request carries."""

import pytest

from cloudmatch_edge.admission.bearer import check_query, find, redacted
from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.dialects.v1_messages import TOKEN_MAX


@pytest.mark.parametrize("query", ["token=x", "id=a&access_token=x", "id=a&Token=", "id=a&token=x&lat=0"])
def test_a_token_in_the_url_is_refused(query: str) -> None:
    with pytest.raises(DeniedError) as denied:
        check_query(query)
    assert (denied.value.status, denied.value.code) == (400, "token_in_url")


@pytest.mark.parametrize("query", ["", "id=a&lat=0", "id=token=x", "mytoken=x", "id=a&tokens=1"])
def test_other_queries_are_none_of_its_business(query: str) -> None:
    check_query(query)


def test_a_token_comes_as_a_header_or_as_a_subprotocol() -> None:
    assert find(["Bearer a.b.c"], []) == "a.b.c"
    assert find(["bearer  a.b.c "], ["cloudmatch.v1"]) == "a.b.c"
    assert find([], ["cloudmatch.v1", "bearer.a.b.c"]) == "a.b.c"
    assert find(["Basic eDp5"], ["bearer.a.b.c"]) == "a.b.c"
    assert find(["Bearer " + "x" * TOKEN_MAX], []) == "x" * TOKEN_MAX


@pytest.mark.parametrize(
    ("authorization", "offered", "reason"),
    [
        ([], [], "missing"),
        ([], ["cloudmatch.v1", "Bearer.x"], "missing"),
        (["Basic eDp5"], [], "missing"),
        (["Bearer a", "Bearer a"], [], "ambiguous"),
        (["Basic a", "Bearer a"], [], "ambiguous"),
        (["Bearer a"], ["bearer.a"], "ambiguous"),
        ([], ["bearer.a", "bearer.b"], "ambiguous"),
        (["Bearer " + "x" * (TOKEN_MAX + 1)], [], "malformed"),
        ([], ["bearer." + "x" * 5120], "malformed"),
    ],
)
def test_no_token_and_more_than_one_and_a_long_one_are_refused(
    authorization: list[str], offered: list[str], reason: str
) -> None:
    with pytest.raises(DeniedError) as denied:
        find(authorization, offered)
    assert (denied.value.status, denied.value.reason) == (401, reason)


def test_what_quotes_a_client_keeps_its_tokens_to_itself() -> None:
    text = "none of 'chat, bearer.eyJ.x.y,resume.abc' and 'Authorization: Bearer eyJ' is supported"
    assert redacted(text) == "none of 'chat, bearer.…,resume.…' and 'Authorization: Bearer …' is supported"
