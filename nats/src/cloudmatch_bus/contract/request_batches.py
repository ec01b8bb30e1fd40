"""Pairing requests of one edge in one message, on ``match.<cellpart>.<edge>.batch``, and their answers.

Edges of earlier versions also send a request on its own, on ``match.<cellpart>.<device>``.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.bounds import Seconds
from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest

MOST = 64  # requests in one message, at most; edges send 16


class RequestBatch(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="batch"):
    """Requests to one partition."""

    requests: Annotated[list[AnyRequest], Meta(min_length=1, max_length=MOST)]
    patience: Seconds = 2.0  # s for which the edge waits for the answers


class AnswerBatch(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="answers"):
    """Answers to a `RequestBatch`, in the order of its requests; null: not carried out, to be repeated."""

    answers: list[AnyAnswer | None]


decode_requests: Callable[[bytes], AnyRequest | RequestBatch] = msgspec.json.Decoder(
    AnyRequest | RequestBatch
).decode
decode_answers: Callable[[bytes], AnswerBatch] = msgspec.json.Decoder(AnswerBatch).decode
