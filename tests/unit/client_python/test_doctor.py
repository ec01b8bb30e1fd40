"""What the doctor makes of answers."""

import json

import pytest

from cloudmatch.cli import doctor


def test_what_a_service_that_is_ready_warns_of_is_shown_with_advice() -> None:
    body = {"ready": True, "reasons": {}, "warnings": {"facts": "3 facts wait", "future": "x"}}
    facts, other = doctor.warnings("edge", json.dumps(body).encode())
    assert (facts.state, facts.found) == (doctor.State.WARNING, "3 facts wait")
    assert "the disk of NATS" in facts.advice
    assert other.advice == "check its log"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"ready":true,"reasons":{}}', b'{"warnings":3}'])
def test_a_service_without_warnings_has_none(body: bytes) -> None:
    assert doctor.warnings("edge", body) == []
