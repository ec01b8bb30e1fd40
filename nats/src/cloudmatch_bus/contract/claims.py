"""Who a message says that it is from, compared with its subject: the server decides who may use that one.

Each function decodes a message and raises `UNREADABLE` if it is none of ours; of these, `FalseClaimError` if
it speaks for somebody else.
"""

import msgspec

from cloudmatch_bus.contract.messages import (
    AnyFact,
    AnyRequest,
    Heartbeat,
    decode_fact,
    decode_heartbeat,
)
from cloudmatch_bus.contract.request_batches import RequestBatch, decode_requests
from cloudmatch_bus.contract.subjects import ev, heartbeat, token


class FalseClaimError(msgspec.ValidationError):
    """A message names another sender than its subject does."""

    def __init__(self, subject: str, claimed: str) -> None:
        super().__init__(f"a message on {subject} claims to be {claimed}")


def requests_on(subject: str, payload: bytes) -> AnyRequest | RequestBatch:
    """Decode pairing requests: a batch is of one edge, as all requests are of one app.

    A request on its own, of an edge of an earlier version, comes on a subject that names its device instead.
    """
    message = decode_requests(payload)
    tokens = subject.split(".")  # cm v1 <app> match <cellpart>, then <device>, or <edge> batch
    if isinstance(message, RequestBatch):
        for request in message.requests:
            if tokens[2:3] + tokens[5:] != [token(request.app), token(request.edge), "batch"]:
                raise FalseClaimError(subject, f"of edge '{request.edge}' and app '{request.app}'")
    elif tokens[2:3] + tokens[5:] != [token(message.app), token(message.device)]:
        raise FalseClaimError(subject, f"about device '{message.device}' of app '{message.app}'")
    return message


def heartbeat_on(subject: str, payload: bytes) -> Heartbeat:
    """Decode the heartbeat of a process."""
    message = decode_heartbeat(payload)
    if subject != heartbeat(message.role, message.name):
        raise FalseClaimError(subject, f"of {message.role} '{message.name}'")
    return message


def fact_on(subject: str, payload: bytes) -> AnyFact:
    """Decode a fact: its subject names its app, its kind, and its device or its source."""
    fact = decode_fact(payload)
    if subject != ev(fact.app, fact.kind, fact.primary_device):
        raise FalseClaimError(subject, f"'{fact.kind}' of '{fact.primary_device}' in app '{fact.app}'")
    return fact
