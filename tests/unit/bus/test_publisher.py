"""JetStream's answers to published facts."""

from cloudmatch_bus.client.publisher import _decode_ack


def test_an_error_is_distinguished_from_an_acknowledgement() -> None:
    assert _decode_ack(b'{"stream":"EVENTS","seq":7}').error is None
    # of two processes that publish one fact at once to a stream with three replicas, one gets:
    error = b'{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}'
    assert str(_decode_ack(error).error) == (
        "duplicate message id is in process (JetStream error 10158, code 409)"
    )
