"""Errors of NATS and JetStream in words."""

import nats.errors
from nats.js.errors import ServerError, ServiceUnavailableError

from cloudmatch_bus.client.errors import described


def test_an_error_of_jetstream_has_its_code_and_description() -> None:
    error = ServerError(code=500, err_code=10047, description="insufficient storage resources available")
    assert described(error) == "insufficient storage resources available (JetStream error 10047, code 500)"


def test_no_error_is_without_words() -> None:
    assert described(ServiceUnavailableError()) == "ServiceUnavailableError"
    assert described(nats.errors.TimeoutError()) == "timeout"
    assert described(TimeoutError()) == "TimeoutError"
