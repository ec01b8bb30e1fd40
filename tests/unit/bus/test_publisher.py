"""JetStream's word on a fact."""

from cloudmatch_bus.client.publisher import _decode_ack


def test_a_refusal_is_told_from_an_acknowledgement() -> None:
    assert _decode_ack(b'{"stream":"EVENTS","seq":7}').error is None
    # Of two who say the same fact at once to a stream of three copies one is told:
    refusal = b'{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}'
    assert _decode_ack(refusal).error
