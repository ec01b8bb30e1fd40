"""One subject carries single requests and batches; a batch's answers keep their places."""

import msgspec
import pytest

from cloudmatch_bus.contract.messages import DeviceGone, StepAway, encode
from cloudmatch_bus.contract.request_batches import (
    MOST,
    AnswerBatch,
    RequestBatch,
    decode_answers,
    decode_requests,
)

AWAY = StepAway(app="demo", device="a", edge="e", connection_id=1)


def test_a_request_is_decoded_whether_it_comes_alone_or_in_a_batch() -> None:
    batch = RequestBatch(requests=[AWAY, AWAY], patience=4.0)
    assert decode_requests(encode(AWAY)) == AWAY
    assert decode_requests(encode(batch)) == batch


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_requests(encode(RequestBatch(requests=[])))


def test_a_batch_of_more_than_an_edge_has_under_way_is_refused() -> None:
    full = RequestBatch(requests=[AWAY] * MOST)
    assert decode_requests(encode(full)) == full
    with pytest.raises(msgspec.ValidationError):
        decode_requests(encode(RequestBatch(requests=[AWAY] * (MOST + 1))))


def test_answers_keep_their_places() -> None:
    answers = AnswerBatch(answers=[None, DeviceGone(connection_id=1)])
    assert decode_answers(encode(answers)) == answers
