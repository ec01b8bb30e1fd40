"""The exceptions of the Python client."""

import pytest

import cloudmatch
from cloudmatch.core import errors


def test_every_error_is_public_and_a_cloudmatch_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) == 10
    for kind in kinds:
        assert issubclass(kind, cloudmatch.CloudMatchError)
        assert getattr(cloudmatch, kind.__name__) is kind


@pytest.mark.parametrize(("parameter", "text"), [("lat", "lat: too far north"), (None, "too far north")])
def test_a_refusal_names_the_wrong_parameter_if_there_is_one(parameter: str | None, text: str) -> None:
    error = errors.RefusedError(400, "bad_parameter", "too far north", parameter)
    assert str(error) == text
    assert (error.status, error.code, error.detail, error.parameter, error.reason) == (
        *(400, "bad_parameter", "too far north"),
        *(parameter, None),
    )


def test_a_closed_device_has_the_close_code_and_the_reason() -> None:
    error = errors.ReplacedError(4001, "a newer connection")
    assert isinstance(error, errors.ClosedError)
    assert (error.code, error.reason, str(error)) == (4001, "a newer connection", "a newer connection")


def test_a_payload_that_was_not_delivered_names_the_peer_and_the_reason() -> None:
    error = errors.PeerLeftError("b", "expired")
    assert (error.peer, error.reason) == ("b", "expired")
    assert str(error) == "the match with 'b' ended before the payload was delivered: expired"


def test_a_refused_payload_has_the_servers_code_and_detail() -> None:
    error = errors.PayloadRefusedError("rate_limited", "too many")
    assert (error.code, error.detail, str(error)) == ("rate_limited", "too many", "too many")
