"""Why a device may not come in."""

from cloudmatch_edge.admission.denied import forbidden, unauthorized


def test_a_token_that_is_not_taken_and_one_that_does_not_allow_differ_in_their_status() -> None:
    one, other = unauthorized("expired", "it is too late"), forbidden("id", "it is another's")
    assert (one.status, one.code, one.reason, one.parameter) == (401, "unauthorized", "expired", "")
    assert (other.status, other.code, other.reason, other.parameter) == (403, "forbidden", None, "id")
    assert str(one) == one.detail == "it is too late"
