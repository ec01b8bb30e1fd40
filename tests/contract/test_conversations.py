"""The shared conversations of cloudmatch.v1 fit their schema and cover the whole protocol."""

import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

FOLDER = Path(__file__).parents[2] / "edge/conformance"
CONVERSATIONS: list[dict[str, Any]] = json.loads((FOLDER / "conversations.json").read_text(encoding="utf-8"))
STEPS = [step for conversation in CONVERSATIONS for step in conversation["steps"]]


def types(side: str) -> set[str]:
    """Return the types of all frames sent by one side."""
    frames = [step[side] for step in STEPS if side in step]
    return {frame["type"] for frame in frames if isinstance(frame, dict) and "type" in frame}


def test_the_conversations_fit_their_schema() -> None:
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert [f"{'/'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(CONVERSATIONS)] == []


def test_every_conversation_has_a_name_of_its_own() -> None:
    names = [conversation["name"] for conversation in CONVERSATIONS]
    assert len(set(names)) == len(names)


def test_every_conversation_starts_with_a_connection_and_every_drop_but_the_last_precedes_one() -> None:
    for conversation in CONVERSATIONS:
        kinds = [next(iter(s)) for s in conversation["steps"] if not {"event", "call"} & set(s)]
        assert kinds[0] == "connect", conversation["name"]
        for before, after in itertools.pairwise(kinds):
            assert (before == "drop") == (after == "connect"), conversation["name"]


@pytest.mark.parametrize("side", ["server", "client"])
def test_every_message_type_of_the_protocol_occurs(side: str) -> None:
    protocol = {
        "client": {"message", "ack", "unmatch", "locate", "leave", "ping", "token"},
        "server": {"welcome", "waiting", "matched", "message", "ack", "receipt", "peer_away", "peer_back"}
        | {"peer_left", "resumed", "gap", "error", "pong"}
        | {"token_expires", "token"},
    }
    assert protocol[side] <= types(side)
    assert any("binary" in step[side] for step in STEPS if isinstance(step.get(side), dict))


def test_every_error_every_reason_and_every_close_code_occurs() -> None:
    frames = [step["server"] for step in STEPS if "server" in step]
    errors = {frame["code"] for frame in frames if frame.get("type") == "error"}
    assert errors == {
        *("bad_json", "bad_message", "bad_count", "unknown_type"),
        *("not_matched", "payload_too_large", "rate_limited", "unauthorized", "forbidden"),
    }
    reasons = {frame["reason"] for frame in frames if frame.get("type") == "peer_left"}
    assert reasons == {"left", "unmatched", "expired", "replaced"}
    codes = {step["drop"] for step in STEPS if "drop" in step}
    assert codes == {None, *(1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013), *(4001, 4003, 4008, 4999)}
